"""``bf16``, ``fp16`` and ``fp32``: the delta merged into dense weights of one dtype."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from exporter.base.checkpoint import Checkpoint
from exporter.fidelity import sums_over
from exporter.formats.encoding import Encoded, Encoding, Fold, Shape, Source, cast
from exporter.formats.format import Format
from exporter.safetensors.reader import DTYPE_NAMES
from exporter.safetensors.writer import TensorSpec


@dataclass(frozen=True)
class DenseWeight(Encoding):
    """A dense weight of one dtype."""

    dtype: torch.dtype

    def specs(self, module: str, shape: Shape, base: Checkpoint) -> tuple[TensorSpec, ...]:
        """The weight."""
        return (TensorSpec(f"{module}.weight", DTYPE_NAMES[self.dtype], shape),)

    def encode(self, fold: Fold) -> Encoded:
        """Add, cast and measure, some rows at a time."""
        delta = fold.delta
        if delta is None:
            return Encoded({fold.name: cast(fold.dense, self.dtype, fold.where)})
        shape, device = fold.weight.shape, fold.weight.device
        stored = torch.empty(shape, dtype=self.dtype, device=device)

        def changes() -> Iterator[tuple[Tensor, Tensor]]:
            for rows, change in delta.pieces():
                dense = fold.rows(rows).float()
                total = dense + change
                stored[rows] = total
                yield total.copy_(stored[rows]).sub_(dense), change

        sums = sums_over(changes())
        if not math.isfinite(sums.miss):  # then this tells why
            cast(fold.dense + delta.dense(), self.dtype, fold.where)
        return Encoded({fold.name: stored}, sums)

    def decode(self, fold: Fold, tensors: Mapping[str, Tensor]) -> Tensor:
        """The weight itself."""
        return tensors[fold.name]


@dataclass(frozen=True)
class Dense(Format):
    """All of a model in one dtype, which a subclass names."""

    fold_onto: str = "auto"

    @property
    def stands_on_4_bits(self) -> bool:
        """Only if the delta is added to those."""
        return self.fold_onto == "dequantized"

    def encoding(self, module: str, source: Source, base: Checkpoint) -> Encoding:
        """Dense, whatever the layer is in the base."""
        assert self.dtype is not None, "every dense format has its dtype"
        return DenseWeight(self.dtype)

    def loaded_problems(self, model: Any) -> Iterator[str]:
        """Parameters of another dtype."""
        found = {parameter.dtype for parameter in model.parameters()}
        if found != {self.dtype}:
            yield f"parameters came up as {sorted(map(str, found))}"


class Bf16(Dense):
    """bfloat16."""

    name: ClassVar[str] = "bf16"
    content: ClassVar[str] = "The delta is merged into dense bfloat16 weights."
    dtype: ClassVar[torch.dtype] = torch.bfloat16


class Fp16(Dense):
    """float16."""

    name: ClassVar[str] = "fp16"
    content: ClassVar[str] = "The delta is merged into dense float16 weights."
    dtype: ClassVar[torch.dtype] = torch.float16


class Fp32(Dense):
    """float32."""

    name: ClassVar[str] = "fp32"
    content: ClassVar[str] = "The delta is merged into dense float32 weights."
    dtype: ClassVar[torch.dtype] = torch.float32
