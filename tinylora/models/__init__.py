"""What else stands in a checkpoint: config.json, tokenizer, chat template."""
