"""The formats of an export, one object in one file each; see ``format`` and ``registry``."""
