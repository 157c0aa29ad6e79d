"""How one module is stored: encoding, decoding and measuring of its tensors; units of a file."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from exporter.base.checkpoint import Checkpoint
from exporter.errors import FoldError
from exporter.fidelity import ErrorSums, sums_over
from exporter.safetensors.reader import all_finite
from exporter.safetensors.writer import TensorSpec
from tinylora import LowRankDelta, QuantizedWeight, TinyLoRAParts
from tinylora.svd.factors import weight_matrix

Shape = tuple[int, int]
# Sums, 4-bit codes moved and scales changed, of :class:`exporter.fidelity.ModuleFidelity`.
Measures = tuple[ErrorSums, int | None, int | None]

# The trainer loads 16-bit bases with dtype=bfloat16.
TRAINER_DTYPE = torch.bfloat16


@dataclass(frozen=True, eq=False)
class Fold:
    """A module's weight, and what is to be added to it.

    Attributes:
        where: Its file and tensor, for messages.
        weight: The weight that the output stands on, ``[out, in]``, on the device that folds.
        delta: The delta to add, on the same device; None where nothing is added.
        moment: For calibrated codes: gives mean(x xᵀ) of the module's inputs, ``[in, in]``.
        parts: Gives the adapter's A, B and P of the module, and its trained vector ``[u]``.
    """

    module: str
    where: str
    weight: QuantizedWeight | Tensor
    delta: LowRankDelta | None = None
    moment: Callable[[], Tensor] | None = None
    parts: Callable[[], tuple[TinyLoRAParts, Tensor]] | None = None

    @property
    def name(self) -> str:
        """Key of the weight."""
        return f"{self.module}.weight"

    @property
    def dense(self) -> Tensor:
        """The weight as the forward pass sees it, ``[out, in]``, in its own dtype."""
        weight = self.weight
        return weight.dequantize() if isinstance(weight, QuantizedWeight) else weight


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is stored of a module.

    Attributes:
        tensors: By name.
        unchanged: Whether they are those of the weight that was given.
        dense: That weight as the forward pass sees it, where it is at hand.
        least_miss: Least ‖E − Δ‖² that codes on the weight's scales can have, where it was found.
    """

    tensors: Mapping[str, Tensor]
    unchanged: bool = False
    dense: Tensor | None = None
    least_miss: float | None = None


class Encoding(ABC):
    """One way of storing a module. Frozen dataclasses: equal ones store equal tensors."""

    @abstractmethod
    def specs(self, module: str, shape: Shape, base: Checkpoint) -> tuple[TensorSpec, ...]:
        """The tensors that will be written for a layer whose weight is ``(out, in)``."""

    @abstractmethod
    def encode(self, fold: Fold) -> Encoded:
        """Make these tensors; FoldError where a value is not finite, or does not fit."""

    @abstractmethod
    def decode(self, fold: Fold, tensors: Mapping[str, Tensor]) -> Tensor | LowRankDelta:
        """What stored tensors mean: a weight ``[out, in]``, or a change beside the base's."""

    def measure(self, fold: Fold, encoded: Encoded) -> Measures:
        """Compare what was stored, decoded, with the delta that was wanted."""
        assert fold.delta is not None, "only a fold is measured"
        decoded = self.decode(fold, encoded.tensors)
        if isinstance(decoded, Tensor):
            dense = fold.dense if encoded.dense is None else encoded.dense
            return sums_over(stored_change(decoded, dense, fold.delta)), None, None
        decoded = decoded.to(fold.delta.left.device)
        both = zip(decoded.pieces(), fold.delta.pieces(), strict=True)
        return sums_over((found, wanted) for (_, found), (_, wanted) in both), None, None

    def seen(self, fold: Fold) -> Tensor:
        """The weight that the forward pass would see of what is stored, float32 ``[out, in]``."""
        decoded = self.decode(fold, self.encode(fold).tensors)
        if isinstance(decoded, Tensor):
            return decoded.float()
        return weight_matrix(fold.weight) + decoded.dense()


def stored_change(
    stored: Tensor, dense: Tensor, delta: LowRankDelta
) -> Iterator[tuple[Tensor, Tensor]]:
    """E = stored − dense and Δ, some rows at a time, float32."""
    for rows, change in delta.pieces():
        yield stored[rows].float() - dense[rows].float(), change


def cast(tensor: Tensor, dtype: torch.dtype, where: str) -> Tensor:
    """Cast a finite tensor; FoldError where the dtype cannot hold a value."""
    result = tensor.to(dtype)
    if result is not tensor and not all_finite(result):
        largest = float(tensor.abs().max())
        advice = (
            "take a wider type: bf16 or fp32 as format, fp32 as adapter dtype"
            if dtype == torch.float16
            else "no trained model has it; is the base damaged? download it again"
        )
        raise FoldError(
            f"{where}: a value of size {largest:.6g} does not fit {dtype}, whose largest is "
            f"{torch.finfo(dtype).max:.6g}; {advice}"
        )
    return result


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
