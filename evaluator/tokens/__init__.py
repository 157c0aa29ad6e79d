"""The token level: predictions on the same tokens, arm beside reference.

::

    generations ─ texts ─ logits ─ stage ─ records ─ summary ─ tables
"""
