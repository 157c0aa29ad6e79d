"""Makes the linear layers and LoRA pairs of one file: weight, factors, fold, in one pass.

A weight is read and quantized once; its factors and its fold are made from that.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from exporter.checkpoint import Checkpoint
from exporter.fold import FoldRecord, linear_tensors, lora_tensors, seen_weight
from exporter.plan import LinearUnit, LoraUnit
from exporter.request import RequantizeMethod
from exporter.workers import in_order
from tinylora import AdapterDeltas


@dataclass(frozen=True, eq=False)
class MadeUnit:
    """What is to be written for a unit.

    Attributes:
        unit: The unit.
        tensors: Its tensors by name.
        record: Of the fold, if there was one.
        factor_seconds: How long its singular factors took.
    """

    unit: LinearUnit | LoraUnit
    tensors: Mapping[str, Tensor]
    record: FoldRecord | None
    factor_seconds: float


def make_units(
    units: Sequence[LinearUnit | LoraUnit],
    base: Checkpoint,
    deltas: AdapterDeltas,
    method: RequantizeMethod,
    workers: int,
) -> Iterator[MadeUnit]:
    """Make units, some at a time, in their order.

    Args:
        units: What to make.
        base: Where from.
        deltas: The artifact's deltas.
        method: Requantizer of 4-bit outputs.
        workers: How many at once.

    Raises:
        FoldError: A value is not finite, before or after.
        FactorizationError: An SVD failed.
    """

    @torch.no_grad()
    def make(unit: LinearUnit | LoraUnit) -> MadeUnit:
        seen = seen_weight(unit, base)
        start = time.monotonic()
        wanted = isinstance(unit, LoraUnit) or unit.fold
        factors = deltas.factors(unit.module, seen) if wanted else None
        seconds = time.monotonic() - start
        if isinstance(unit, LinearUnit):
            tensors, record = linear_tensors(unit, seen, base, deltas, factors, method)
            return MadeUnit(unit, tensors, record, seconds)
        assert factors is not None
        return MadeUnit(unit, *lora_tensors(unit, deltas, factors), seconds)

    return in_order(make, units, workers)
