"""Codes of a 4-bit weight that has a delta added to it."""
