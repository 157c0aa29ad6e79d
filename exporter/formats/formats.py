"""The output formats, each described by what its files hold.

========================  =========================================  ====================
format                    what it is                                 keeps the delta
========================  =========================================  ====================
``nf4``                   merged, 4-bit as the base has it (below)   as measured; often not
``nf4-mixed``             merged; some modules bf16, the rest 4-bit  by choice
``nf4-embedded``          4-bit base as it is + the delta as a LoRA  exactly
``bf16 fp16 fp32``        merged, dense                              by precision
``lora``                  PEFT LoRA adapter alone                    exactly
``peft-tinylora``         PEFT TinyLoRA adapter alone                exactly
========================  =========================================  ====================

A 4-bit base stays what it is: code book (nf4 or fp4), block size, single or double quantization of
each tensor and ``config.json``. A 16-bit base is quantized as the trainer did while loading it: nf4
in blocks of 64, double quantization.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from exporter.errors import RequestError

FormatName = Literal[
    "nf4", "nf4-mixed", "nf4-embedded", "bf16", "fp16", "fp32", "lora", "peft-tinylora"
]


@dataclass(frozen=True)
class Format:
    """What the files of one output format hold.

    Attributes:
        name: The format's name on the command line.
        weights: How linear layers are stored: in 4 bits, dense, or not at all.
        dtype: Dtype of a dense format's floating-point tensors; None for the others.
        merged: Whether the delta is folded into the weights.
        adapter: Whether a PEFT adapter is written.
        method: PEFT's name of that adapter's method.
    """

    name: FormatName
    weights: Literal["4bit", "dense", "none"]
    dtype: torch.dtype | None
    merged: bool
    adapter: bool
    method: Literal["LORA", "TINYLORA"] = "LORA"


FORMATS: tuple[Format, ...] = (
    Format("nf4", "4bit", None, merged=True, adapter=False),
    Format("nf4-mixed", "4bit", None, merged=True, adapter=False),
    Format("nf4-embedded", "4bit", None, merged=False, adapter=True),
    Format("bf16", "dense", torch.bfloat16, merged=True, adapter=False),
    Format("fp16", "dense", torch.float16, merged=True, adapter=False),
    Format("fp32", "dense", torch.float32, merged=True, adapter=False),
    Format("lora", "none", None, merged=False, adapter=True),
    Format("peft-tinylora", "none", None, merged=False, adapter=True, method="TINYLORA"),
)


def stands_on_4_bits(layout: Format, fold_onto: str | None) -> bool:
    """Whether an export's linear layers have values that a 4-bit weight gave them.

    Args:
        layout: Its format.
        fold_onto: What a dense one was added to.
    """
    return layout.weights != "dense" or fold_onto == "dequantized"


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        RequestError: There is none.
    """
    for candidate in FORMATS:
        if candidate.name == name:
            return candidate
    raise RequestError(
        f"format {name!r} is unknown; the formats are {', '.join(f.name for f in FORMATS)}"
    )
