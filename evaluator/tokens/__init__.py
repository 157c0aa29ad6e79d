"""The token level: predictions on the same tokens, arm beside reference.

::

    generations ─ texts ─ reference_logits ─ stage ─ records ─ summary
"""
