"""Makes the linear layers and LoRA pairs of one file: weight, factors, fold, in one pass.

A weight is read and quantized once; its factors and its fold are made from that.
"""

from collections.abc import Callable, Generator, Mapping, Sequence

import torch
from torch import Tensor

from exporter.adapter_units import TinyUnit
from exporter.checkpoint import Checkpoint
from exporter.data_file import Scratch
from exporter.fold import FoldRecord, linear_tensors, lora_tensors, seen_weight, tiny_tensors
from exporter.plan import LinearUnit, LoraUnit, ModuleUnit
from exporter.progress import Stopwatch
from exporter.request import RequantizeMethod
from exporter.workers import in_order
from tinylora import ModuleDeltas


def make_units(
    units: Sequence[ModuleUnit],
    base: Checkpoint,
    deltas: ModuleDeltas,
    write: Callable[[str, Tensor], None],
    method: RequantizeMethod,
    workers: int,
    watch: Stopwatch,
    moments: Callable[[str], Tensor] | None = None,
) -> Generator[tuple[ModuleUnit, FoldRecord | None], None, None]:
    """Make and write units, some at a time.

    Args:
        units: What to make.
        base: Where from.
        deltas: The artifact's deltas.
        write: Takes a finished tensor and its name, from any thread.
        method: Requantizer of 4-bit outputs.
        workers: How many at once.
        watch: Times the stages.
        moments: For ``calibrated``: mean(x xᵀ) of a module's inputs.

    Returns:
        Each unit, in their order, once it is written, with the record of its fold if there was one.

    Raises:
        FoldError: A value is not finite, before or after.
        FactorizationError: An SVD failed.
        OutputWriteError: There is no room, or it cannot be written.
    """
    scratch = Scratch()  # a unit is written before its thread reads the next

    @torch.no_grad()
    def make(unit: ModuleUnit) -> tuple[ModuleUnit, FoldRecord | None]:
        with watch.timed("read"):
            seen = seen_weight(unit, base, scratch)
        if isinstance(unit, LinearUnit) and not unit.fold:
            tensors, record = linear_tensors(unit, seen, base, None, method)
            return written(unit, tensors, record)
        with watch.timed("factors"):
            rebuilt = deltas.module(unit.module, lambda: seen)
        with watch.timed("fold"):
            match unit:
                case LinearUnit():
                    tensors, record = linear_tensors(unit, seen, base, rebuilt, method, moments)
                case LoraUnit():
                    tensors, record = lora_tensors(unit, rebuilt)
                case TinyUnit():
                    tensors, record = tiny_tensors(unit, rebuilt)
        return written(unit, tensors, record)

    def written(
        unit: ModuleUnit, tensors: Mapping[str, Tensor], record: FoldRecord | None
    ) -> tuple[ModuleUnit, FoldRecord | None]:
        with watch.timed("write"):
            for name, tensor in tensors.items():
                write(name, tensor)
        return unit, record

    return in_order(make, units, workers)
