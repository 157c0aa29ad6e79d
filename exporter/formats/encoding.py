"""How one module is stored: encoding, decoding and measuring of its tensors; units of a file."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
        return self.rows(slice(0, self.weight.shape[0]))

    def rows(self, part: slice) -> Tensor:
        """Some rows of it."""
        weight = self.weight
        return weight.rows(part) if isinstance(weight, QuantizedWeight) else weight[part]


@dataclass(frozen=True, eq=False)
class Encoded:
    """What is stored of a module, compared with the delta that was wanted.

    Attributes:
        tensors: By name.
        sums: None where nothing was to be added.
        codes_moved: 4-bit codes that differ from the weight's; None for other formats.
        scales_changed: Likewise, block scales.
    """

    tensors: Mapping[str, Tensor]
    sums: ErrorSums | None = None
    codes_moved: int | None = None
    scales_changed: int | None = None


class Encoding(ABC):
    """One way of storing a module. Frozen dataclasses: equal ones store equal tensors."""

    @abstractmethod
    def specs(self, module: str, shape: Shape, base: Checkpoint) -> tuple[TensorSpec, ...]:
        """The tensors that will be written for a layer whose weight is ``(out, in)``."""

    @abstractmethod
    def encode(self, fold: Fold) -> Encoded:
        """Make and measure these tensors; FoldError where a value is not finite or does not fit."""

    @abstractmethod
    def decode(self, fold: Fold, tensors: Mapping[str, Tensor]) -> Tensor | LowRankDelta:
        """What stored tensors mean: a weight ``[out, in]``, or a change beside the base's."""

    def seen(self, fold: Fold) -> Tensor:
        """The weight that the forward pass would see of what is stored, float32 ``[out, in]``."""
        decoded = self.decode(fold, self.encode(fold).tensors)
        if isinstance(decoded, Tensor):
            return decoded.float()
        return weight_matrix(fold.weight) + decoded.dense()


def sums_beside(found: LowRankDelta, wanted: LowRankDelta | None) -> ErrorSums:
    """Sums for a change that is stored beside the base."""
    assert wanted is not None, "an adapter holds target modules only"
    both = zip(found.to(wanted.left.device).pieces(), wanted.pieces(), strict=True)
    return sums_over((error, delta) for (_, error), (_, delta) in both)


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


# Weights as the base stores them in 4 bits; of 16 bits, brought to bfloat16 and quantized on the
# way, or to bfloat16 alone; of 16 bits as they are in the file.
Source = Literal["4bit", "quantize", "dense", "as stored"]


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
        fold: Whether the delta is in it.
    """

    module: str
    shape: tuple[int, int]
    source: Source
    trained: Source
    fold: bool
    encoding: Encoding
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class VectorUnit:
    """One trained vector of the adapter, fp32."""

    group: int
    outputs: tuple[TensorSpec, ...]


Unit = TensorUnit | ModuleUnit | VectorUnit
