"""A base as the trainer loads it."""

import json

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def load_4bit(directory):
    if "quantization_config" in json.loads((directory / "config.json").read_text()):
        return AutoModelForCausalLM.from_pretrained(directory, device_map="cpu")
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
    )
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.bfloat16, quantization_config=settings, device_map="cpu"
    )
