"""Makes the units of one file, several at a time, each in one pass.

A weight is read and quantized once; its factors, its fold and its measures are made from that, and
nothing of it is kept but the measures. A tensor that is carried over passes in pieces.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from blake3 import blake3
from torch import Tensor

from exporter.adapter_units import TinyUnit, VectorUnit
from exporter.checkpoint import Checkpoint
from exporter.data_file import Scratch
from exporter.fidelity import ModuleFidelity
from exporter.fold import (
    FoldRecord,
    linear_tensors,
    lora_tensors,
    seen_weight,
    tensor_chunks,
    tiny_tensors,
    vector_tensors,
)
from exporter.measure import measure_module
from exporter.plan import LinearUnit, LoraUnit, ModuleUnit, TensorUnit, Unit
from exporter.progress import Stopwatch
from exporter.request import RequantizeMethod
from exporter.shard_writer import ShardWriter
from tinylora import ModuleDeltas, QuantizedWeight
from tinylora.tensor_bytes import tensor_bytes, tensor_digest
from tinylora.workers import in_order


@dataclass(frozen=True)
class Made:
    """What has been written of a unit.

    Attributes:
        fidelity: What of its delta; None where nothing was folded.
        digests: BLAKE3 of its tensors, where these are known.
        carried: Names of its tensors that are the base's own, whose BLAKE3 is to be found there.
    """

    fidelity: ModuleFidelity | None = None
    digests: Mapping[str, bytes] | None = None
    carried: tuple[str, ...] = ()


def make_units(
    units: Sequence[Unit],
    base: Checkpoint,
    deltas: ModuleDeltas,
    writer: ShardWriter,
    method: RequantizeMethod,
    workers: int,
    device: torch.device,
    watch: Stopwatch,
    known: dict[str, bytes] | None,
    moments: Callable[[str], Tensor] | None = None,
) -> Generator[Made, None, None]:
    """Make, write and measure units, some at a time.

    Args:
        units: What to make.
        base: Where from.
        deltas: The artifact's deltas.
        writer: Takes finished tensors.
        method: Requantizer of 4-bit outputs.
        workers: How many at once.
        device: Where fast factors are computed and weights are folded and measured.
        watch: Times the stages.
        known: BLAKE3 of tensors of the base, as far as they are known; the others are added. None
            where digests are of no use.
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
    def make(unit: Unit) -> Made:
        match unit:
            case TensorUnit():
                chunks = tensor_chunks(unit, base)
                if known is not None and not unit.casts:
                    chunks = _digested(unit.name, chunks, known)
                with watch.timed("write"):
                    writer.write_rows(unit.name, chunks, unit.shape)
                return Made(carried=() if unit.casts else (unit.name,))
            case VectorUnit():
                write(vector_tensors(unit, deltas))
                return Made()
            case _:
                return make_module(unit)

    def make_module(unit: ModuleUnit) -> Made:
        with watch.timed("read"):
            seen = seen_weight(unit, base, scratch)
        digests = None
        if known is not None and isinstance(seen, QuantizedWeight):
            with watch.timed("hash"):
                digests = _digests(unit, seen, known)
        tensors, record = folded(unit, seen, digests)
        write(tensors)
        if record is None:
            is_own = isinstance(unit, LinearUnit) and unit.dtype is None
            return Made(None, digests if is_own else None)
        fidelity = watch.call("measure", measure_module, unit, record, tensors)
        return Made(fidelity, digests if record.unchanged else None)

    def write(tensors: Mapping[str, Tensor]) -> None:
        with watch.timed("write"):
            for name, tensor in tensors.items():
                writer.write(name, tensor)

    def folded(
        unit: ModuleUnit, seen: QuantizedWeight | Tensor, digests: Mapping[str, bytes] | None
    ) -> tuple[Mapping[str, Tensor], FoldRecord | None]:
        if isinstance(unit, LinearUnit) and not unit.fold:
            return linear_tensors(unit, seen, base, None, method)
        there = seen.to(device)
        with watch.timed("factors"):
            rebuilt = deltas.module(unit.module, lambda: there, _digest(unit, seen, digests))
        with watch.timed("fold"):
            match unit:
                case LinearUnit():
                    found = linear_tensors(unit, there, base, rebuilt, method, moments)
                    return _as_read(unit, seen, *found)
                case LoraUnit():
                    return lora_tensors(unit, rebuilt)
                case TinyUnit():
                    return tiny_tensors(unit, rebuilt, deltas.vectors)

    return in_order(make, units, workers)


def _as_read(
    unit: LinearUnit,
    seen: QuantizedWeight | Tensor,
    tensors: Mapping[str, Tensor],
    record: FoldRecord | None,
) -> tuple[Mapping[str, Tensor], FoldRecord | None]:
    """What was made; a weight that did not change need not come back from the device."""
    if record is not None and record.unchanged and isinstance(seen, QuantizedWeight):
        return seen.to_tensors(f"{unit.module}.weight"), record
    return tensors, record


def _digested(name: str, chunks: Iterator[Tensor], known: dict[str, bytes]) -> Iterator[Tensor]:
    """The chunks of a tensor, whose digest is found while they pass."""
    digest = blake3()
    for chunk in chunks:
        digest.update(tensor_bytes(chunk))
        yield chunk
    known[name] = digest.digest()


def _digests(
    unit: ModuleUnit, seen: QuantizedWeight, known: dict[str, bytes]
) -> Mapping[str, bytes]:
    """BLAKE3 of each tensor of a weight; a base in 16 bits has another under the same name."""
    found = known if unit.source == "4bit" else {}
    tensors = seen.to_tensors(f"{unit.module}.weight")
    for name, tensor in tensors.items():
        if name not in found:
            found[name] = tensor_digest(tensor)
    return {name: found[name] for name in tensors}


def _digest(
    unit: ModuleUnit, seen: QuantizedWeight | Tensor, digests: Mapping[str, bytes] | None
) -> str | None:
    """The digest of a weight, from those of its tensors."""
    if digests is None or not isinstance(seen, QuantizedWeight):
        return None
    prefix = f"{unit.module}.weight"
    return seen.digest({name.removeprefix(prefix): part for name, part in digests.items()})
