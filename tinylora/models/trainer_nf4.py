"""The 4-bit settings of upstream's trainers, whose base is a 16-bit one quantized on loading."""

from typing import Any

import torch


def trainer_nf4() -> Any:
    """Transformers' ``BitsAndBytesConfig``: nf4 in blocks of 64, double quantization."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
    )
