"""Measures what a written file holds of each folded delta, by reading the file again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from exporter.adapter_units import TinyUnit, tiny_names, vector_name
from exporter.checkpoint import Checkpoint, TensorHeader, checked_data_file, read_headers
from exporter.data_file import DataFile
from exporter.fidelity import ErrorSums, ModuleFidelity, sums_over, sums_without_change
from exporter.fold import FoldRecord, ground_weight, seen_weight, stored_change
from exporter.plan import LinearUnit, LoraUnit, ModuleUnit, lora_names
from tinylora import LowRankDelta, QuantizedWeight, TinyLoRAParts


@dataclass(frozen=True)
class WrittenFile:
    """A finished file, its header read once; use :func:`open_written`."""

    data: DataFile
    headers: Mapping[str, TensorHeader]

    def read(self, name: str) -> Tensor:
        """One tensor."""
        header = self.headers[name]
        return self.data.read(name, header.torch_dtype, header.shape)


def open_written(path: Path) -> WrittenFile:
    """Open a finished file for measuring.

    Raises:
        CheckpointError: It is damaged.
    """
    return WrittenFile(checked_data_file(path), {h.name: h for h in read_headers(path)})


def measure_module(
    unit: ModuleUnit, record: FoldRecord, base: Checkpoint, file: WrittenFile
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
    names = [spec.name for spec in unit.outputs]
    codes_moved = scales_changed = None
    if isinstance(unit, LoraUnit):
        stored_b, stored_a = (file.read(name) for name in reversed(lora_names(unit.module)))
        sums = _between(LowRankDelta(stored_b.float(), stored_a.float()), record.delta)
    elif isinstance(unit, TinyUnit):
        sums = _between(_tiny_delta(unit, record, file), record.delta)
    elif unit.dtype is None:
        sums, codes_moved, scales_changed = _measure_4bit(unit, record, base, file)
    else:
        ground = ground_weight(unit, seen_weight(unit, base), base)
        stored = file.read(f"{unit.module}.weight")
        sums = sums_over(stored_change(stored, ground, record.delta))
    return ModuleFidelity(
        module=unit.module,
        shape=unit.shape,
        sums=sums,
        codes_moved=codes_moved,
        scales_changed=scales_changed,
        bytes=sum(file.headers[name].nbytes for name in names),
        spectrum=record.spectrum,
    )


def _measure_4bit(
    unit: LinearUnit, record: FoldRecord, base: Checkpoint, file: WrittenFile
) -> tuple[ErrorSums, int, int]:
    names = base.names_4bit(unit.module)
    same = unit.source == "4bit" and all(
        base.file_of(name).holds_same(name, file.data) for name in names
    )
    if not same:
        stored = {spec.name: file.read(spec.name) for spec in unit.outputs}
        weight = QuantizedWeight.from_tensors(f"{unit.module}.weight", stored)
        same = record.base_digest is not None and weight.digest() == record.base_digest
    if same:
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


def _between(found: LowRankDelta, wanted: LowRankDelta) -> ErrorSums:
    """Sums where the file holds factors, E = found."""
    both = zip(found.pieces(), wanted.pieces(), strict=True)
    return sums_over((one, two) for (_, one), (_, two) in both)


def _tiny_delta(unit: TinyUnit, record: FoldRecord, file: WrittenFile) -> LowRankDelta:
    """B · R · A as the file has it."""
    assert record.group is not None, "a stored vector has a number"
    vector = file.read(vector_name(record.group))
    a, b, p = (file.read(name) for name in tiny_names(unit.module))
    return TinyLoRAParts(a, b, p, record.group).low_rank(vector)
