"""Completions: checkpoints → models, prompts → batches → texts.

``stage`` runs an arm's share of them and appends what is made; ``backends`` load the models, and
``noise`` pairs the arms.
"""
