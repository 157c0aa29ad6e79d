"""Chooses what the user left open: the format, and the modules that stay in 16 bits."""
