"""Units of a weight file: tensors that are made together and must stay in one file."""

from dataclasses import dataclass
from typing import Literal

import torch

from exporter.formats.encoding import Encoding
from exporter.safetensors.writer import TensorSpec

# Weights as the base stores them in 4 bits; 16-bit, quantized on the way; 16-bit and left so.
Source = Literal["4bit", "quantize", "dense"]


@dataclass(frozen=True)
class TensorUnit:
    """A tensor of the base that no fold touches, and the dtypes that it passes through, if any."""

    name: str
    shape: tuple[int, ...]
    casts: tuple[torch.dtype, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ModuleUnit:
    """What is stored of a linear layer: its weight, or an adapter's part for it.

    Attributes:
        shape: ``(out, in)`` of its weight.
        source: Which weight the output stands on.
        trained: Likewise, which weight training had.
        as_stored: Whether a 16-bit weight is added to as the file has it, and not in bfloat16.
        fold: Whether the delta is in it.
    """

    module: str
    shape: tuple[int, int]
    source: Source
    trained: Source
    as_stored: bool
    fold: bool
    encoding: Encoding
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class VectorUnit:
    """One trained vector of the adapter, fp32."""

    group: int
    outputs: tuple[TensorSpec, ...]


Unit = TensorUnit | ModuleUnit | VectorUnit
