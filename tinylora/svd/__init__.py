"""The factors U, Σ and V of frozen weights, computed and kept on disk."""
