"""Reads what an export is made from: a layer's weight, quantized on the way, and other tensors."""

from collections.abc import Iterator

import torch
from torch import Tensor

from exporter.base.checkpoint import Checkpoint
from exporter.errors import FoldError
from exporter.formats.encoding import TRAINER_DTYPE, ModuleUnit, TensorUnit, cast
from exporter.safetensors.reader import all_finite
from tinylora import LowRankDelta, QuantizedWeight


def tensor_chunks(unit: TensorUnit, base: Checkpoint) -> Iterator[Tensor]:
    """A carried tensor in pieces of bounded size, cast and checked.

    Raises:
        FoldError: It is not finite, or does not fit the output dtype.
    """
    for chunk in base.chunks(unit.name):
        _check_finite(chunk, unit.name, base)
        for dtype in unit.casts:
            chunk = cast(chunk, dtype, place_of(unit.name, base))
        yield chunk


def read_weight(
    unit: ModuleUnit, base: Checkpoint, *, trained: bool = False
) -> QuantizedWeight | Tensor:
    """The weight that a layer's output stands on, or that training had: 4-bit, or ``[out, in]``.

    Raises:
        FoldError: It is not finite.
        CheckpointError: It is no 4-bit weight of the layer's shape.
    """
    name, source = f"{unit.module}.weight", unit.trained if trained else unit.source
    if source == "4bit":
        weight = base.read_4bit(unit.module, unit.shape)
        for part, tensor in weight.to_tensors(name).items():
            _check_finite(tensor, part, base)
        _check_finite(weight.block_absmax, f"{name}.absmax", base)
        return weight
    dense = base.read(name)
    _check_finite(dense, name, base)
    if not (base.is_4bit or source == "as stored"):
        dense = cast(dense, TRAINER_DTYPE, place_of(name, base))
    return QuantizedWeight.quantize(dense) if source == "quantize" else dense


def checked_delta(module: str, delta: LowRankDelta) -> LowRankDelta:
    """A module's delta, once its product is known to fit float32.

    Raises:
        FoldError: It does not.
    """
    if delta.left.numel():
        largest = delta.left.abs() @ delta.right.abs().amax(dim=1)
        if not bool(torch.isfinite(largest).all()):
            raise FoldError(
                f"{module}: the adapter's change of this module does not fit float32, though its "
                "factors do; no training gives such numbers, so the adapter's file is damaged"
            )
    return delta


def place_of(name: str, base: Checkpoint) -> str:
    """Where a tensor of the base lies, for messages."""
    header = base.tensors.get(name)
    return f"{base.path / header.file if header else base.path}: tensor {name!r}"


def _check_finite(tensor: Tensor, name: str, base: Checkpoint) -> None:
    """Refuse a tensor of the base that has an infinity or NaN."""
    if not all_finite(tensor):
        raise FoldError(
            f"{place_of(name, base)} has non-finite values; the base is damaged, download it again"
        )
