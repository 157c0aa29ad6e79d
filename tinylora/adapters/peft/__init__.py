"""PEFT's TinyLoRA adapters: a directory with a configuration and stored projections."""
