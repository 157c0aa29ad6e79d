"""The restored model: a base with the adapter at run time."""
