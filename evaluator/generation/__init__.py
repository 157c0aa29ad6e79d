"""Completions: checkpoints → models, prompts → batches → texts."""
