"""Makes the units of one file, each in one pass.

A weight is read and quantized once; its factors, its fold and its measures are made from that (its
factors from another one where training had another), and nothing of it is kept but the measures.
They are measures of the tensors as they were handed to the file: the writer reads back what it
writes. A tensor that is carried over passes in pieces.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from exporter.fidelity import ModuleFidelity, spectrum_of
from exporter.fold.read_weights import checked_delta, place_of, read_weight, tensor_chunks
from exporter.formats.encoding import Fold, ModuleUnit, TensorUnit, Unit, VectorUnit
from exporter.inputs import Inputs
from exporter.safetensors.writer import ShardWriter
from tinylora import ModuleDelta, ModuleDeltas, QuantizedWeight, TinyLoRAParts


@dataclass(frozen=True, eq=False)
class UnitMaker:
    """Makes units, from several threads if need be.

    Attributes:
        moments: For ``calibrated``: mean(x xᵀ) of a module's inputs.
    """

    inputs: Inputs
    writer: ShardWriter
    moments: Callable[[str], Tensor] | None

    @torch.no_grad()
    def make(self, unit: Unit) -> ModuleFidelity | None:
        """Make and write a unit; measure what was stored of its delta, if one was folded.

        Raises:
            FoldError: A value is not finite, before or after.
            FactorizationError: An SVD failed.
            OutputWriteError: There is no room, or it cannot be written.
        """
        base, watch = self.inputs.base, self.inputs.watch
        match unit:
            case TensorUnit():
                with watch.timed("write"):
                    self.writer.write_rows(unit.name, tensor_chunks(unit, base), unit.shape)
                return None
            case VectorUnit():
                vector = self.inputs.deltas.vectors[unit.group].float()
                self._write({unit.outputs[0].name: vector})
                return None
            case ModuleUnit():
                return self._make_module(unit)

    def _make_module(self, unit: ModuleUnit) -> ModuleFidelity | None:
        base, watch, deltas = self.inputs.base, self.inputs.watch, self.inputs.deltas
        with watch.timed("read"):
            read = read_weight(unit, base)
        where = place_of(f"{unit.module}.weight", base)
        if not unit.fold:
            self._write(unit.encoding.encode(Fold(unit.module, where, read)).tensors)
            return None
        # where fast factors are computed and weights are folded and measured
        device = torch.device(self.inputs.request.device)
        there = read.to(device)

        def trained() -> QuantizedWeight | Tensor:
            if unit.source == unit.trained:
                return there
            return read_weight(unit, base, trained=True).to(device)

        with watch.timed("factors"):
            rebuilt = deltas.module(unit.module, trained)
        with watch.timed("fold"):
            delta = checked_delta(unit.module, rebuilt.low_rank()).to(device)
            moment = None if self.moments is None else partial(self.moments, unit.module)
            parts = cache(partial(_parts, rebuilt, deltas))
            fold = Fold(unit.module, where, there, delta, moment, parts)
            encoded = unit.encoding.encode(fold)
        self._write(encoded.tensors)
        assert encoded.sums is not None, "a fold is measured"
        return ModuleFidelity(
            module=unit.module,
            shape=unit.shape,
            sums=encoded.sums,
            codes_moved=encoded.codes_moved,
            scales_changed=encoded.scales_changed,
            bytes=sum(tensor.nbytes for tensor in encoded.tensors.values()),
            spectrum=spectrum_of(rebuilt.factors),
        )

    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        with self.inputs.watch.timed("write"):
            for name, tensor in tensors.items():
                self.writer.write(name, tensor)


def _parts(rebuilt: ModuleDelta, deltas: ModuleDeltas) -> tuple[TinyLoRAParts, Tensor]:
    """A, B and P of a module, and its trained vector in float32."""
    parts = rebuilt.parts()
    return parts, deltas.vectors[parts.group].float()
