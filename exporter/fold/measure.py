"""Measures what the tensors of a file hold of each folded delta.

They are measured as they were handed to the file; that the file has them, byte for byte, is known
by then, as the writer reads back whatever it writes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from exporter.fidelity import ErrorSums, ModuleFidelity, sums_over, sums_without_change
from exporter.fold.fold import FoldRecord, stored_change
from exporter.plan.adapter_units import TinyUnit, tiny_names
from exporter.plan.plan import LoraUnit, ModuleUnit, lora_names
from tinylora import LowRankDelta, QuantizedWeight, TinyLoRAParts


def measure_module(
    unit: ModuleUnit, record: FoldRecord, stored: Mapping[str, Tensor]
) -> ModuleFidelity:
    """Compare what was stored of a module with what it stands on and with its delta.

    Args:
        unit: What was planned.
        record: What was folded.
        stored: Its tensors by name.

    Returns:
        The module's measures.
    """
    name = f"{unit.module}.weight"
    codes_moved = scales_changed = None
    if isinstance(unit, LoraUnit):
        stored_a, stored_b = (stored[part] for part in lora_names(unit.module))
        sums = _between(LowRankDelta(stored_b.float(), stored_a.float()), record.delta)
    elif isinstance(unit, TinyUnit):
        assert record.vector is not None, "it is stored with the module"
        a, b, p = (stored[part] for part in tiny_names(unit.module))
        sums = _between(TinyLoRAParts(a, b, p, 0).low_rank(record.vector), record.delta)
    elif isinstance(record.ground, QuantizedWeight):
        sums, codes_moved, scales_changed = _measure_4bit(name, stored, record.ground, record)
    else:
        assert record.ground is not None, "a merged weight stands on another"
        sums = sums_over(stored_change(stored[name], record.ground, record.delta))
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
    name: str, stored: Mapping[str, Tensor], seen: QuantizedWeight, record: FoldRecord
) -> tuple[ErrorSums, int, int]:
    if record.unchanged:
        return sums_without_change(record.delta, bound=record.grid_miss is None), 0, 0
    weight = QuantizedWeight.from_tensors(name, stored)
    codes_moved = int((weight.codes() != seen.codes()).sum())
    scales_changed = int((weight.block_absmax() != seen.block_absmax()).sum())
    bound = record.grid_miss
    if bound is None:  # no code could move under the base's scales
        bound = sums_over((torch.zeros_like(d), d) for _, d in record.delta.pieces()).delta
    changes = stored_change(weight.dequantize(), seen.dequantize(), record.delta)
    return sums_over(changes, bound), codes_moved, scales_changed


def _between(found: LowRankDelta, wanted: LowRankDelta) -> ErrorSums:
    """Sums where the file holds factors, E = found."""
    both = zip(found.pieces(), wanted.pieces(), strict=True)
    return sums_over((one, two) for (_, one), (_, two) in both)
