"""Measures what a file holds of each folded delta, by reading back what was written."""

import torch

from exporter.adapter_units import TinyUnit, tiny_names, vector_name
from exporter.fidelity import ErrorSums, ModuleFidelity, sums_over, sums_without_change
from exporter.fold import FoldRecord, stored_change
from exporter.plan import LinearUnit, LoraUnit, ModuleUnit, lora_names
from exporter.shard_writer import ShardWriter
from tinylora import LowRankDelta, QuantizedWeight, TinyLoRAParts


def measure_module(
    unit: ModuleUnit, record: FoldRecord, stored_bytes: int, file: ShardWriter
) -> ModuleFidelity:
    """Compare a module as it stands in a file with what it stands on and with its delta.

    Args:
        unit: What was planned.
        record: What was folded.
        stored_bytes: Size of its tensors.
        file: Where they were written.

    Returns:
        The module's measures.

    Raises:
        CheckpointUnreadableError: The file cannot be read back.
    """
    codes_moved = scales_changed = None
    if isinstance(unit, LoraUnit):
        stored_a, stored_b = (file.read(name) for name in lora_names(unit.module))
        sums = _between(LowRankDelta(stored_b.float(), stored_a.float()), record.delta)
    elif isinstance(unit, TinyUnit):
        sums = _between(_tiny_delta(unit, record, file), record.delta)
    elif isinstance(record.ground, QuantizedWeight):
        sums, codes_moved, scales_changed = _measure_4bit(unit, record.ground, record, file)
    else:
        assert record.ground is not None, "a merged weight stands on another"
        stored = file.read(f"{unit.module}.weight")
        sums = sums_over(stored_change(stored, record.ground, record.delta))
    return ModuleFidelity(
        module=unit.module,
        shape=unit.shape,
        sums=sums,
        codes_moved=codes_moved,
        scales_changed=scales_changed,
        bytes=stored_bytes,
        spectrum=record.spectrum,
    )


def _measure_4bit(
    unit: LinearUnit, seen: QuantizedWeight, record: FoldRecord, file: ShardWriter
) -> tuple[ErrorSums, int, int]:
    name = f"{unit.module}.weight"
    if all(file.holds(part, tensor) for part, tensor in seen.to_tensors(name).items()):
        return sums_without_change(record.delta, bound=record.grid_miss is None), 0, 0
    stored = {spec.name: file.read(spec.name) for spec in unit.outputs}
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


def _tiny_delta(unit: TinyUnit, record: FoldRecord, file: ShardWriter) -> LowRankDelta:
    """B · R · A as the file has it."""
    assert record.group is not None, "a stored vector has a number"
    vector = file.read(vector_name(record.group))
    a, b, p = (file.read(name) for name in tiny_names(unit.module))
    return TinyLoRAParts(a, b, p, record.group).low_rank(vector)
