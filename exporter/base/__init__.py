"""The base checkpoint: its files, what its config.json says, whether the two agree."""
