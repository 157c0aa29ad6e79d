"""Makes the linear layers and LoRA pairs of one file: weight, factors, fold, measures, in one pass.

A weight is read and quantized once; its factors, its fold and its measures are made from that, and
nothing of it is kept but the measures.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

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
from exporter.workers import in_order
from tinylora import ModuleDeltas, QuantizedWeight
from tinylora.tensor_bytes import tensor_digest


@dataclass(frozen=True)
class Made:
    """What has been written of a unit.

    Attributes:
        fidelity: What of its delta; None where nothing was folded.
        digests: BLAKE3 of its tensors, where these are known.
    """

    fidelity: ModuleFidelity | None
    digests: Mapping[str, bytes] | None


def make_units(
    units: Sequence[ModuleUnit],
    base: Checkpoint,
    deltas: ModuleDeltas,
    write: Callable[[str, Tensor], None],
    method: RequantizeMethod,
    workers: int,
    watch: Stopwatch,
    known: Callable[[str], bytes | None] | None,
    moments: Callable[[str], Tensor] | None = None,
) -> Generator[Made, None, None]:
    """Make, write and measure units, some at a time.

    Args:
        units: What to make.
        base: Where from.
        deltas: The artifact's deltas.
        write: Takes a finished tensor and its name, from any thread.
        method: Requantizer of 4-bit outputs.
        workers: How many at once.
        watch: Times the stages.
        known: Gives the BLAKE3 of a tensor of the base, as far as it is known by now; None where
            digests are of no use.
        moments: For ``calibrated``: mean(x xᵀ) of a module's inputs.

    Returns:
        Each unit, in their order, once it is written.

    Raises:
        FoldError: A value is not finite, before or after.
        FactorizationError: An SVD failed.
        OutputWriteError: There is no room, or it cannot be written.
    """
    scratch = Scratch()  # a unit is written and measured before its thread reads the next

    @torch.no_grad()
    def make(unit: ModuleUnit) -> Made:
        with watch.timed("read"):
            seen = seen_weight(unit, base, scratch)
        digests = None
        if known is not None and isinstance(seen, QuantizedWeight):
            with watch.timed("hash"):
                digests = _digests(unit, seen, known)
        tensors, record = folded(unit, seen, digests)
        with watch.timed("write"):
            for name, tensor in tensors.items():
                write(name, tensor)
        if record is None:
            is_own = isinstance(unit, LinearUnit) and unit.dtype is None
            return Made(None, digests if is_own else None)
        fidelity = watch.call("measure", measure_module, unit, record, tensors)
        return Made(fidelity, digests if record.unchanged else None)

    def folded(
        unit: ModuleUnit, seen: QuantizedWeight | Tensor, digests: Mapping[str, bytes] | None
    ) -> tuple[Mapping[str, Tensor], FoldRecord | None]:
        if isinstance(unit, LinearUnit) and not unit.fold:
            return linear_tensors(unit, seen, base, None, method)
        with watch.timed("factors"):
            rebuilt = deltas.module(unit.module, lambda: seen, _digest(unit, seen, digests))
        with watch.timed("fold"):
            match unit:
                case LinearUnit():
                    return linear_tensors(unit, seen, base, rebuilt, method, moments)
                case LoraUnit():
                    return lora_tensors(unit, rebuilt)
                case TinyUnit():
                    return tiny_tensors(unit, rebuilt, deltas.vectors)

    return in_order(make, units, workers)


def _digests(
    unit: ModuleUnit, seen: QuantizedWeight, known: Callable[[str], bytes | None]
) -> Mapping[str, bytes]:
    """BLAKE3 of each tensor of a weight; a base in 16 bits has another under the same name."""
    look_up = known if unit.source == "4bit" else (lambda name: None)
    tensors = seen.to_tensors(f"{unit.module}.weight")
    return {name: look_up(name) or tensor_digest(tensor) for name, tensor in tensors.items()}


def _digest(
    unit: ModuleUnit, seen: QuantizedWeight | Tensor, digests: Mapping[str, bytes] | None
) -> str | None:
    """The digest of a weight, from those of its tensors."""
    if digests is None or not isinstance(seen, QuantizedWeight):
        return None
    prefix = f"{unit.module}.weight"
    return seen.digest({name.removeprefix(prefix): part for name, part in digests.items()})
