"""Measures what a written file holds of each folded delta, by reading the file again."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from exporter.checkpoint import Checkpoint
from exporter.fidelity import ErrorSums, ModuleFidelity, sums_over, sums_without_change
from exporter.fold import FoldRecord, ground_weight, seen_weight, stored_change
from exporter.plan import LinearUnit, LoraUnit, lora_names
from tinylora import LowRankDelta, QuantizedWeight


def measure_module(
    unit: LinearUnit | LoraUnit, record: FoldRecord, base: Checkpoint, file: Path
) -> ModuleFidelity:
    """Compare a module as it stands in a finished file with its base and its delta.

    Args:
        unit: What was planned.
        record: What was folded.
        base: The base checkpoint.
        file: The file just written.

    Returns:
        The module's measures.
    """
    stored = _read(file, unit)
    codes_moved = scales_changed = None
    if isinstance(unit, LoraUnit):
        name_a, name_b = lora_names(unit.module)
        pair = LowRankDelta(stored[name_b], stored[name_a])
        both = zip(pair.pieces(), record.delta.pieces(), strict=True)
        sums = sums_over((found, wanted) for (_, found), (_, wanted) in both)
    elif unit.dtype is None:
        sums, codes_moved, scales_changed = _measure_4bit(unit, record, base, stored)
    else:
        ground = ground_weight(unit, seen_weight(unit, base), base)
        sums = sums_over(stored_change(stored[f"{unit.module}.weight"], ground, record.delta))
    return ModuleFidelity(
        module=unit.module,
        shape=unit.shape,
        sums=sums,
        codes_moved=codes_moved,
        scales_changed=scales_changed,
        bytes=sum(tensor.nbytes for tensor in stored.values()),
        spectrum=record.spectrum,
    )


def _measure_4bit(
    unit: LinearUnit, record: FoldRecord, base: Checkpoint, stored: Mapping[str, Tensor]
) -> tuple[ErrorSums, int, int]:
    weight = QuantizedWeight.from_tensors(f"{unit.module}.weight", stored)
    if weight.digest() == record.base_digest:
        return sums_without_change(record.delta, bound=record.grid_miss is None), 0, 0
    seen = seen_weight(unit, base)
    assert isinstance(seen, QuantizedWeight), "4-bit outputs come from 4-bit weights"
    codes_moved = int((weight.codes() != seen.codes()).sum())
    scales_changed = int((weight.block_absmax() != seen.block_absmax()).sum())
    bound = record.grid_miss
    if bound is None:  # no code could move under the base's scales
        bound = sums_over((torch.zeros_like(d), d) for _, d in record.delta.pieces()).delta
    changes = stored_change(weight.dequantize(), seen.dequantize(), record.delta)
    return sums_over(changes, bound), codes_moved, scales_changed


def _read(file: Path, unit: LinearUnit | LoraUnit) -> dict[str, Tensor]:
    with safe_open(file, framework="pt", device="cpu") as opened:
        return {spec.name: opened.get_tensor(spec.name) for spec in unit.outputs}
