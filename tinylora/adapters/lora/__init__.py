"""PEFT's LoRA: a low-rank pair for each module."""
