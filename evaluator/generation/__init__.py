"""Completions: checkpoints → models, prompts → batches → texts.

``stage`` runs an arm's share of them and appends what is made; ``noise`` pairs the arms.
"""
