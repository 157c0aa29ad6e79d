"""Makes the units of one file, each in one pass.

A weight is read and quantized once; its factors, its fold and its measures are made from that (its
factors from another one where training had another), and nothing of it is kept but the measures. A
tensor that is carried over passes in pieces.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
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
        moments: For ``calibrated``: mean(x xᵀ) of a module's inputs.
        scratch: What a thread reads a weight into; it is done with it before it reads the next.
    """

    base: Checkpoint
    deltas: ModuleDeltas
    writer: ShardWriter
    method: RequantizeMethod
    device: torch.device
    watch: Stopwatch
    moments: Callable[[str], Tensor] | None
    scratch: Scratch = field(default_factory=Scratch)

    @torch.no_grad()
    def make(self, unit: Unit) -> ModuleFidelity | None:
        """Make, write and measure a unit.

        Returns:
            What was stored of its delta; None where nothing was folded.

        Raises:
            FoldError: A value is not finite, before or after.
            FactorizationError: An SVD failed.
            OutputWriteError: There is no room, or it cannot be written.
        """
        match unit:
            case TensorUnit():
                with self.watch.timed("write"):
                    self.writer.write_rows(unit.name, tensor_chunks(unit, self.base), unit.shape)
                return None
            case VectorUnit():
                self._write(vector_tensors(unit, self.deltas))
                return None
            case _:
                return self._make_module(unit)

    def _make_module(self, unit: ModuleUnit) -> ModuleFidelity | None:
        with self.watch.timed("read"):
            if isinstance(unit, LinearUnit):
                read = ground_weight(unit, self.base, self.scratch)
            else:
                read = trained_weight(unit, self.base, self.scratch)
        tensors, record = self._folded(unit, read)
        self._write(tensors)
        if record is None:
            return None
        return self.watch.call("measure", measure_module, unit, record, tensors)

    def _folded(
        self, unit: ModuleUnit, read: QuantizedWeight | Tensor
    ) -> tuple[Mapping[str, Tensor], FoldRecord | None]:
        if isinstance(unit, LinearUnit) and not unit.fold:
            return linear_tensors(unit, read, self.base, None, self.method)
        there = read.to(self.device)
        with self.watch.timed("factors"):
            rebuilt = self._rebuilt(unit, there)
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

    def _rebuilt(self, unit: ModuleUnit, there: QuantizedWeight | Tensor) -> ModuleDelta:
        """The delta, of the weight that was read if training had that one, else of training's."""
        if not isinstance(unit, LinearUnit) or (unit.source == unit.trained and not unit.as_stored):
            return self.deltas.module(unit.module, lambda: there)
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
