"""Makes the units of one file, each in one pass.

A weight is read and quantized once; its factors, its fold and its measures are made from that (its
factors from another one where training had another), and nothing of it is kept but the measures. A
tensor that is carried over passes in pieces.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from blake3 import blake3
from torch import Tensor

from exporter.base.checkpoint import Checkpoint
from exporter.fidelity import ModuleFidelity
from exporter.fold.fold import (
    FoldRecord,
    ground_weight,
    linear_tensors,
    lora_tensors,
    tensor_chunks,
    tiny_tensors,
    trained_weight,
    vector_tensors,
)
from exporter.fold.measure import measure_module
from exporter.plan.adapter_units import TinyUnit, VectorUnit
from exporter.plan.plan import LinearUnit, LoraUnit, ModuleUnit, TensorUnit, Unit
from exporter.progress import Stopwatch
from exporter.request import RequantizeMethod
from exporter.safetensors.reader import Scratch
from exporter.safetensors.writer import ShardWriter
from tinylora import ModuleDelta, ModuleDeltas, QuantizedWeight
from tinylora.weights.tensor_bytes import tensor_bytes, tensor_digest


@dataclass(frozen=True)
class Made:
    """What has been written of a unit.

    Attributes:
        fidelity: What of its delta; None where nothing was folded.
        digests: BLAKE3 of its tensors, where these are known.
    """

    fidelity: ModuleFidelity | None = None
    digests: Mapping[str, bytes] | None = None


@dataclass(frozen=True, eq=False)
class UnitMaker:
    """Makes units, from several threads if need be.

    Attributes:
        base: Where from.
        deltas: The adapter's deltas.
        writer: Takes finished tensors.
        method: Requantizer of 4-bit outputs.
        device: Where fast factors are computed and weights are folded and measured.
        watch: Times the stages.
        known: BLAKE3 of tensors of the base, as far as they are known; the others are added. None
            where digests are of no use.
        moments: For ``calibrated``: mean(x xᵀ) of a module's inputs.
        scratch: What a thread reads a weight into; it is done with it before it reads the next.
    """

    base: Checkpoint
    deltas: ModuleDeltas
    writer: ShardWriter
    method: RequantizeMethod
    device: torch.device
    watch: Stopwatch
    known: dict[str, bytes] | None
    moments: Callable[[str], Tensor] | None
    scratch: Scratch = field(default_factory=Scratch)

    @torch.no_grad()
    def make(self, unit: Unit) -> Made:
        """Make, write and measure a unit.

        Raises:
            FoldError: A value is not finite, before or after.
            FactorizationError: An SVD failed.
            OutputWriteError: There is no room, or it cannot be written.
        """
        match unit:
            case TensorUnit():
                return self._carry(unit)
            case VectorUnit():
                self._write(vector_tensors(unit, self.deltas))
                return Made()
            case _:
                return self._make_module(unit)

    def _carry(self, unit: TensorUnit) -> Made:
        chunks = tensor_chunks(unit, self.base)
        known = None if unit.casts else self.known
        if known is not None:
            chunks = _digested(unit.name, chunks, known)
        with self.watch.timed("write"):
            self.writer.write_rows(unit.name, chunks, unit.shape)
        return Made(digests=None if known is None else {unit.name: known[unit.name]})

    def _make_module(self, unit: ModuleUnit) -> Made:
        with self.watch.timed("read"):
            if isinstance(unit, LinearUnit):
                read = ground_weight(unit, self.base, self.scratch)
            else:
                read = trained_weight(unit, self.base, self.scratch)
        digests = None
        if self.known is not None and isinstance(read, QuantizedWeight):
            with self.watch.timed("hash"):
                digests = _digests(unit, read, self.known, self.base)
        tensors, record = self._folded(unit, read, digests)
        self._write(tensors)
        if record is None:
            is_own = isinstance(unit, LinearUnit) and unit.dtype is None
            return Made(None, digests if is_own else None)
        fidelity = self.watch.call("measure", measure_module, unit, record, tensors)
        return Made(fidelity, digests if record.unchanged else None)

    def _folded(
        self,
        unit: ModuleUnit,
        read: QuantizedWeight | Tensor,
        digests: Mapping[str, bytes] | None,
    ) -> tuple[Mapping[str, Tensor], FoldRecord | None]:
        if isinstance(unit, LinearUnit) and not unit.fold:
            return linear_tensors(unit, read, self.base, None, self.method)
        there = read.to(self.device)
        with self.watch.timed("factors"):
            rebuilt = self._rebuilt(unit, read, there, digests)
        with self.watch.timed("fold"):
            match unit:
                case LinearUnit():
                    found = linear_tensors(
                        unit, there, self.base, rebuilt, self.method, self.moments
                    )
                    return _as_read(unit, read, *found)
                case LoraUnit():
                    return lora_tensors(unit, rebuilt)
                case TinyUnit():
                    return tiny_tensors(unit, rebuilt, self.deltas.vectors)

    def _rebuilt(
        self,
        unit: ModuleUnit,
        read: QuantizedWeight | Tensor,
        there: QuantizedWeight | Tensor,
        digests: Mapping[str, bytes] | None,
    ) -> ModuleDelta:
        """The delta, of the weight that was read if training had that one, else of training's."""
        if not isinstance(unit, LinearUnit) or (unit.source == unit.trained and not unit.as_stored):
            return self.deltas.module(unit.module, lambda: there, _digest(unit, read, digests))
        return self.deltas.module(
            unit.module, lambda: trained_weight(unit, self.base).to(self.device)
        )

    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        with self.watch.timed("write"):
            for name, tensor in tensors.items():
                self.writer.write(name, tensor)


def _as_read(
    unit: LinearUnit,
    read: QuantizedWeight | Tensor,
    tensors: Mapping[str, Tensor],
    record: FoldRecord | None,
) -> tuple[Mapping[str, Tensor], FoldRecord | None]:
    """What was made; a weight that did not change need not come back from the device."""
    if record is not None and record.unchanged and isinstance(read, QuantizedWeight):
        return read.to_tensors(f"{unit.module}.weight"), record
    return tensors, record


def _digested(name: str, chunks: Iterator[Tensor], known: dict[str, bytes]) -> Iterator[Tensor]:
    """The chunks of a tensor, whose digest is found while they pass."""
    digest = blake3()
    for chunk in chunks:
        digest.update(tensor_bytes(chunk))
        yield chunk
    known[name] = digest.digest()


def _digests(
    unit: ModuleUnit, read: QuantizedWeight, known: dict[str, bytes], base: Checkpoint
) -> Mapping[str, bytes]:
    """BLAKE3 of each tensor of a weight; a base in 16 bits has another under the same name."""
    found = known if base.is_4bit else {}
    tensors = read.to_tensors(f"{unit.module}.weight")
    for name, tensor in tensors.items():
        if name not in found:
            found[name] = tensor_digest(tensor)
    return {name: found[name] for name in tensors}


def _digest(
    unit: ModuleUnit, read: QuantizedWeight | Tensor, digests: Mapping[str, bytes] | None
) -> str | None:
    """The digest of a weight, from those of its tensors."""
    if digests is None or not isinstance(read, QuantizedWeight):
        return None
    prefix = f"{unit.module}.weight"
    return read.digest({name.removeprefix(prefix): part for name, part in digests.items()})
