"""The token level: predictions on the same tokens, arm beside reference.

::

    generations ─ texts ─ stage ─ records ─ summary
"""
