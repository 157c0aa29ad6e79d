"""Evaluation of code models: generation, judging in a sandbox, paired statistics, tables."""
