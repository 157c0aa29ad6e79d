"""Makes the linear layers and LoRA pairs of one file: weight, factors, fold, measures, in one pass.

A weight is read and quantized once; its factors, its fold and its measures are made from that, and
nothing of it is kept but the measures.
"""

from collections.abc import Callable, Generator, Mapping, Sequence

import torch
from torch import Tensor

from exporter.adapter_units import TinyUnit
from exporter.checkpoint import Checkpoint
from exporter.data_file import Scratch
from exporter.fidelity import ModuleFidelity
from exporter.fold import FoldRecord, linear_tensors, lora_tensors, seen_weight, tiny_tensors
from exporter.measure import measure_module
from exporter.plan import LinearUnit, LoraUnit, ModuleUnit
from exporter.progress import Stopwatch
from exporter.request import RequantizeMethod
from exporter.shard_writer import ShardWriter
from exporter.workers import in_order
from tinylora import ModuleDeltas


def make_units(
    units: Sequence[ModuleUnit],
    base: Checkpoint,
    deltas: ModuleDeltas,
    file: ShardWriter,
    method: RequantizeMethod,
    workers: int,
    watch: Stopwatch,
    moments: Callable[[str], Tensor] | None = None,
) -> Generator[ModuleFidelity | None, None, None]:
    """Make, write and measure units, some at a time.

    Args:
        units: What to make.
        base: Where from.
        deltas: The artifact's deltas.
        file: Where to.
        method: Requantizer of 4-bit outputs.
        workers: How many at once.
        watch: Times the stages.
        moments: For ``calibrated``: mean(x xᵀ) of a module's inputs.

    Returns:
        Of each unit, in their order, once it is written: what the file holds of its delta, None
        where nothing was folded.

    Raises:
        FoldError: A value is not finite, before or after.
        FactorizationError: An SVD failed.
        OutputWriteError: There is no room, or it cannot be written.
        CheckpointUnreadableError: It cannot be read, or not be read back.
    """
    scratch = Scratch()  # a unit is written and measured before its thread reads the next

    @torch.no_grad()
    def make(unit: ModuleUnit) -> ModuleFidelity | None:
        tensors, record = made(unit)
        with watch.timed("write"):
            for name, tensor in tensors.items():
                file.write(name, tensor)
        if record is None:
            return None
        size = sum(tensor.nbytes for tensor in tensors.values())
        del tensors
        return watch.call("measure", measure_module, unit, record, size, file)

    def made(unit: ModuleUnit) -> tuple[Mapping[str, Tensor], FoldRecord | None]:
        with watch.timed("read"):
            seen = seen_weight(unit, base, scratch)
        if isinstance(unit, LinearUnit) and not unit.fold:
            return linear_tensors(unit, seen, base, None, method)
        with watch.timed("factors"):
            rebuilt = deltas.module(unit.module, lambda: seen)
        with watch.timed("fold"):
            match unit:
                case LinearUnit():
                    return linear_tensors(unit, seen, base, rebuilt, method, moments)
                case LoraUnit():
                    return lora_tensors(unit, rebuilt)
                case TinyUnit():
                    return tiny_tensors(unit, rebuilt)

    return in_order(make, units, workers)
