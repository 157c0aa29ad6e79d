"""Makes the tensors of each unit of the plan: read, quantize on the way, add the delta, store.

The delta is held as two thin factors; its dense form exists only while one module is folded.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from exporter.base.checkpoint import Checkpoint
from exporter.errors import FoldError
from exporter.fidelity import Spectrum, spectrum_of, sums_over
from exporter.plan.adapter_units import TinyUnit, VectorUnit, tiny_names, vector_name
from exporter.plan.ground import Source
from exporter.plan.plan import (
    ADAPTER_WEIGHTS,
    TRAINER_DTYPE,
    LinearUnit,
    LoraUnit,
    ModuleUnit,
    TensorUnit,
    lora_names,
)
from exporter.quantize.requantize import preserve
from exporter.quantize.stored import requantized
from exporter.request import RequantizeMethod
from exporter.safetensors.finite import all_finite
from exporter.safetensors.reader import Scratch
from tinylora import LowRankDelta, ModuleDelta, ModuleDeltas, QuantizedWeight

_ELEMENTS_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class FoldRecord:
    """What is remembered of a fold until what was written is measured.

    Attributes:
        delta: The wanted delta.
        spectrum: Singular values of its weight; None where the adapter stores its own factors.
        ground: What the delta was added to; None where the delta itself is stored.
        unchanged: Whether the tensors are the ground's own.
        grid_miss: Least ‖E − Δ‖² on the base's scales; None where codes are not chosen, or where
            nothing better than no change exists.
        vector: The module's trained vector as stored, where that is.
    """

    delta: LowRankDelta
    spectrum: Spectrum | None
    ground: QuantizedWeight | Tensor | None = None
    unchanged: bool = False
    grid_miss: float | None = None
    vector: Tensor | None = None


def tensor_chunks(unit: TensorUnit, base: Checkpoint) -> Iterator[Tensor]:
    """A carried tensor in pieces of bounded size, cast and checked.

    Raises:
        FoldError: It is not finite, or does not fit the output dtype.
    """
    for chunk in base.chunks(unit.name, _ELEMENTS_AT_ONCE):
        check_finite(chunk, unit.name, base)
        for dtype in unit.casts:
            chunk = _cast(chunk, dtype, _place(unit.name, base))
        yield chunk


def ground_weight(
    unit: LinearUnit, base: Checkpoint, scratch: Scratch | None = None
) -> QuantizedWeight | Tensor:
    """The weight that a layer's output stands on: 4-bit, or a 16-bit ``[out, in]``.

    Args:
        unit: The layer.
        base: Where from.
        scratch: Memory that the weight may lie in; by default it gets its own.

    Raises:
        FoldError: It is not finite.
        CheckpointError: It is no 4-bit weight of the layer's shape.
    """
    return _read_weight(unit, unit.source, base, scratch, as_stored=unit.as_stored)


def trained_weight(
    unit: ModuleUnit, base: Checkpoint, scratch: Scratch | None = None
) -> QuantizedWeight | Tensor:
    """The weight that training had, whose singular vectors the delta has; else as above."""
    return _read_weight(unit, unit.trained, base, scratch)


def _read_weight(
    unit: ModuleUnit,
    source: Source,
    base: Checkpoint,
    scratch: Scratch | None,
    *,
    as_stored: bool = False,
) -> QuantizedWeight | Tensor:
    name = f"{unit.module}.weight"
    if source == "4bit":
        weight = base.read_4bit(unit.module, unit.shape, scratch)
        for part, tensor in weight.to_tensors(name).items():
            check_finite(tensor, part, base)
        if not _bounded_scales(weight):
            check_finite(weight.block_absmax(), f"{name}.absmax", base)
        return weight
    dense = base.read(name, scratch)
    check_finite(dense, name, base)
    if not (base.is_4bit or as_stored):
        dense = _cast(dense, TRAINER_DTYPE, _place(name, base))
    return QuantizedWeight.quantize(dense) if source == "quantize" else dense


def linear_tensors(
    unit: LinearUnit,
    ground: QuantizedWeight | Tensor,
    base: Checkpoint,
    rebuilt: ModuleDelta | None,
    method: RequantizeMethod,
    moments: Callable[[str], Tensor] | None = None,
) -> tuple[Mapping[str, Tensor], FoldRecord | None]:
    """Tensors of a linear layer's weight, with the delta folded where the plan says so.

    Args:
        unit: What to make.
        ground: The layer's :func:`ground_weight`, on the device that folds.
        base: Where from.
        rebuilt: The module's delta, where there is a fold.
        method: Requantizer of 4-bit outputs.
        moments: For ``calibrated``: mean(x xᵀ) of a module's inputs.

    Returns:
        Tensors by name, and the fold's record if there was a fold.

    Raises:
        FoldError: A value is not finite, before or after.
    """
    name = f"{unit.module}.weight"
    if rebuilt is None:
        if unit.dtype is None and isinstance(ground, QuantizedWeight):
            return ground.to_tensors(name), None
        assert unit.dtype is not None, "4-bit outputs come from 4-bit weights"
        return {name: _cast(_dense(ground), unit.dtype, _place(name, base))}, None
    delta, spectrum = rebuilt.low_rank().to(ground.device), spectrum_of(rebuilt.factors)
    if unit.dtype is None:
        assert isinstance(ground, QuantizedWeight), "4-bit outputs come from 4-bit weights"
        moment = moments(unit.module).to(ground.device) if moments is not None else None
        merged, grid_miss = _requantize(ground, delta, method, moment)
        return merged.to_tensors(name), FoldRecord(
            delta, spectrum, ground, unchanged=merged is ground, grid_miss=grid_miss
        )
    dense = _dense(ground)
    stored = torch.empty(unit.shape, dtype=unit.dtype, device=ground.device)
    for rows, change in delta.pieces():
        stored[rows] = _cast(change.add_(dense[rows]), unit.dtype, _place(name, base))
    return {name: stored}, FoldRecord(delta, spectrum, dense)


def _dense(ground: QuantizedWeight | Tensor) -> Tensor:
    """A weight ``[out, in]`` in the dtype that it is stored or seen in."""
    return ground.dequantize() if isinstance(ground, QuantizedWeight) else ground


def lora_tensors(unit: LoraUnit, rebuilt: ModuleDelta) -> tuple[Mapping[str, Tensor], FoldRecord]:
    """The LoRA pair of a target module and the record for measuring it."""
    delta, spectrum = rebuilt.low_rank(), spectrum_of(rebuilt.factors)
    name_a, name_b = lora_names(unit.module)
    lora_a, lora_b = lora_pair(delta.padded(unit.rank), unit.balanced)
    pair = {name_a: lora_a, name_b: lora_b}
    tensors = {
        name: _cast(tensor, unit.dtype, f"{ADAPTER_WEIGHTS}: tensor {name!r}")
        for name, tensor in pair.items()
    }
    return tensors, FoldRecord(delta, spectrum)


def tiny_tensors(
    unit: TinyUnit, rebuilt: ModuleDelta, vectors: Tensor
) -> tuple[Mapping[str, Tensor], FoldRecord]:
    """A, B and P of a target module, fp32, and the record for measuring them."""
    parts, spectrum = rebuilt.parts(), spectrum_of(rebuilt.factors)
    names = tiny_names(unit.module)
    tensors = dict(zip(names, (parts.A, parts.B, parts.P), strict=True))
    vector = vectors[parts.group].float()
    return tensors, FoldRecord(rebuilt.low_rank(), spectrum, vector=vector)


def vector_tensors(unit: VectorUnit, deltas: ModuleDeltas) -> Mapping[str, Tensor]:
    """One trained vector, fp32."""
    return {vector_name(unit.group): deltas.vectors[unit.group].float()}


def lora_pair(delta: LowRankDelta, balanced: bool) -> tuple[Tensor, Tensor]:
    """``lora_A = Vh`` and ``lora_B = U·diag(S)·R``, or both scaled to one size.

    When a directory holds base and adapter, transformers casts the adapter to the base's compute
    dtype, float16. There lora_B of a real artifact (1e-5 and less) would lie among the subnormal
    numbers and lose digits. ``balanced`` divides A and multiplies B by one power of two, which
    changes no bit of their product in float32 and leaves float16 its full precision.

    Args:
        delta: The delta, ``[out, in]``.
        balanced: Whether to scale.

    Returns:
        lora_A ``[r, in]`` and lora_B ``[out, r]``.
    """
    size_a, size_b = float(delta.right.abs().max()), float(delta.left.abs().max())
    if not balanced or size_a == 0 or size_b == 0:
        return delta.right, delta.left
    scale = 2.0 ** round(math.log2(size_a / size_b) / 2)
    return delta.right / scale, delta.left * scale


def check_finite(tensor: Tensor, name: str, base: Checkpoint) -> None:
    """Refuse a tensor of the base that has an infinity or NaN.

    Raises:
        FoldError: Naming the file and the tensor.
    """
    if not all_finite(tensor):
        raise FoldError(
            f"{_place(name, base)} has non-finite values; the base is damaged, download it again"
        )


def _place(name: str, base: Checkpoint) -> str:
    """Where a tensor of the base lies, for messages."""
    header = base.tensors.get(name)
    return f"{base.path / header.file if header else base.path}: tensor {name!r}"


def _bounded_scales(weight: QuantizedWeight) -> bool:
    """Whether the parts of a weight's scales alone show that all of these are finite."""
    nested = weight.nested
    if nested is None:
        return False
    code, groups = float(nested.code.abs().max()), float(nested.absmax.abs().max())
    return code * groups + abs(nested.offset) < torch.finfo(torch.float32).max


def _requantize(
    seen: QuantizedWeight, delta: LowRankDelta, method: RequantizeMethod, moment: Tensor | None
) -> tuple[QuantizedWeight, float | None]:
    nearest = preserve(seen, delta)
    merged = nearest if method == "preserve" else requantized(seen, delta, method, moment)
    if nearest is seen:
        return merged, None
    return merged, sums_over(stored_change(nearest.dequantize(), seen.dequantize(), delta)).miss


def stored_change(
    stored: Tensor, ground: Tensor, delta: LowRankDelta
) -> Iterator[tuple[Tensor, Tensor]]:
    """E = stored − ground and Δ, some rows at a time, float32.

    Args:
        stored: ``[out, in]``, any floating-point dtype.
        ground: ``[out, in]``, any floating-point dtype.
        delta: Δ, ``[out, in]``.
    """
    for rows, change in delta.pieces():
        yield stored[rows].float() - ground[rows].float(), change


def _cast(tensor: Tensor, dtype: torch.dtype, where: str) -> Tensor:
    """Cast a finite tensor, refusing values that the dtype cannot hold."""
    result = tensor.to(dtype)
    if result is not tensor and not all_finite(result):
        largest = float(tensor.abs().max())
        advice = (
            "take a wider type: bf16 or fp32 as format, fp32 as adapter dtype"
            if dtype == torch.float16
            else "no trained model has such values; is the base damaged? download it again"
        )
        raise FoldError(
            f"{where}: a value of size {largest:.6g} does not fit {dtype}, whose largest is "
            f"{torch.finfo(dtype).max:.6g}; {advice}"
        )
    return result
