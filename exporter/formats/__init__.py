"""The formats of an export, those of a kind in one file; see ``format`` and ``registry``."""
