"""Makes the linear layers and LoRA pairs of one file: weight, factors, fold, in one pass.

A weight is read and quantized once; its factors and its fold are made from that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from exporter.adapter_units import TinyUnit
from exporter.checkpoint import Checkpoint
from exporter.fold import FoldRecord, linear_tensors, lora_tensors, seen_weight, tiny_tensors
from exporter.plan import LinearUnit, LoraUnit, ModuleUnit
from exporter.progress import Stopwatch
from exporter.request import RequantizeMethod
from exporter.workers import in_order
from tinylora import ModuleDeltas


@dataclass(frozen=True, eq=False)
class MadeUnit:
    """What is to be written for a unit.

    Attributes:
        unit: The unit.
        tensors: Its tensors by name.
        record: Of the fold, if there was one.
    """

    unit: ModuleUnit
    tensors: Mapping[str, Tensor]
    record: FoldRecord | None


def make_units(
    units: Sequence[ModuleUnit],
    base: Checkpoint,
    deltas: ModuleDeltas,
    method: RequantizeMethod,
    workers: int,
    watch: Stopwatch,
    moments: Callable[[str], Tensor] | None = None,
) -> Iterator[MadeUnit]:
    """Make units, some at a time, in their order.

    Args:
        units: What to make.
        base: Where from.
        deltas: The artifact's deltas.
        method: Requantizer of 4-bit outputs.
        workers: How many at once.
        watch: Times the stages.
        moments: For ``calibrated``: mean(x xᵀ) of a module's inputs.

    Raises:
        FoldError: A value is not finite, before or after.
        FactorizationError: An SVD failed.
    """

    @torch.no_grad()
    def make(unit: ModuleUnit) -> MadeUnit:
        with watch.timed("read"):
            seen = seen_weight(unit, base)
        if isinstance(unit, LinearUnit) and not unit.fold:
            tensors, record = linear_tensors(unit, seen, base, None, method)
            return MadeUnit(unit, tensors, record)
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
        return MadeUnit(unit, tensors, record)

    return in_order(make, units, workers)
