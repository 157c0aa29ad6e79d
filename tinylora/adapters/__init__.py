"""Adapter files, one folder a dialect, and the deltas that they stand for."""
