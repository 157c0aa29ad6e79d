"""The deltas of a LoRA adapter on the modules of one base."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams
from tinylora.adapters.adapter import Dialect, position
from tinylora.adapters.inspection import Inspection, about_modules
from tinylora.adapters.lora.adapter import LEAVES, LoraAdapter, load_lora_adapter
from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
from tinylora.adapters.options import TrainedOn
from tinylora.adapters.peft_directory import (
    StoredDeltas,
    about_training,
    adapter_files,
    method_of,
    named_layers,
)
from tinylora.errors import ArtifactError, OptionsError
from tinylora.weights.quantized_weight import QuantizedWeight


class LoraDeltas(StoredDeltas):
    """The deltas of an adapter on its modules, named in the order of the base."""

    def module(
        self, name: str, weight: Callable[[], QuantizedWeight | Tensor] | None = None
    ) -> "LoraModuleDelta":
        """The delta of a module; a TargetMismatchError if it is none. No weight is needed."""
        return LoraModuleDelta(self.adapter, self.names[position(self.names, name)])


@dataclass(frozen=True, eq=False)
class LoraModuleDelta:
    """The delta of one module."""

    adapter: LoraAdapter
    name: str
    factors: None = None

    def low_rank(self) -> LowRankDelta:
        """ΔW = (scale · B) · A, of the module's own rank.

        An ArtifactError if the file has gone, or scale · B is too large for fp32.
        """
        a, b = self.adapter.read(self.name, LEAVES)
        left = (b.double() * self.adapter.config.scale_of(self.name)).float()
        if not bool(torch.isfinite(left).all()):
            raise ArtifactError(
                f"{self.adapter.path}: {self.name}: its scale times lora_B is too large for "
                "float32; training diverged or the files are damaged"
            )
        return LowRankDelta(left, a.float())

    def parts(self) -> TinyLoRAParts:
        """A LoRA has none of TinyLoRA's parts."""
        raise OptionsError(
            f"{self.adapter.path}: a LoRA has no projections and no vector, so it cannot be "
            "written as a TinyLoRA adapter; take the format lora"
        )

    def wrap(self, layer: nn.Module, params: TinyLoRAGlobalParams) -> "LoraLinear":
        """The layer with the delta at run time."""
        return LoraLinear(layer, params, self.low_rank())


class LoraLinear(AdaptedLinear):
    """A linear module and its LoRA: y = base(x) + x Aᵀ (scale · B)ᵀ.

    Attributes:
        A: Parameter ``[r, in]``, fp32; the model may be cast, the update is computed in fp32.
        B: Parameter ``[out, r]``, fp32, scaled.
    """

    def __init__(
        self, base_layer: nn.Module, global_params: TinyLoRAGlobalParams, delta: LowRankDelta
    ) -> None:
        super().__init__(base_layer, global_params)
        self.A = nn.Parameter(delta.right.to(self.weight.device))
        self.B = nn.Parameter(delta.left.to(self.weight.device))

    def matrices(self) -> tuple[Tensor, ...]:
        """B and A."""
        return self.B.float(), self.A.float()


def _inspect(adapter: LoraAdapter, trained_on: TrainedOn) -> Inspection:
    """Ranks, scales and the sizes of the deltas."""
    deltas = (LoraModuleDelta(adapter, name).low_rank() for name in adapter.shapes)
    roots = [math.sqrt(delta.squared_norm()) for delta in deltas]
    norms = torch.tensor(roots, dtype=torch.float64)
    described = adapter.describe()
    facts = {
        "directory": adapter.path.name,
        "sha256": adapter.sha256,
        "dialect": "PEFT LoRA",
        "base_model_name_or_path": adapter.config.base,
        **{name: described[name] for name in ("modules", "ranks", "scales", "use_rslora")},
        "delta_norms": {
            "dtype": "float32",
            "norm": float(norms.norm()),
            "smallest": float(norms.min()),
            "largest": float(norms.max()),
            "zeros": int((norms == 0).sum()),
        },
    }
    remarks = tuple(_remarks(adapter, trained_on, norms.tolist()))
    return Inspection(adapter, facts, "delta_norms", remarks)


def _remarks(adapter: LoraAdapter, trained_on: TrainedOn, norms: list[float]) -> Iterator[str]:
    yield about_modules(adapter.shapes)
    if not any(norms):
        yield "every delta is zero: nothing was trained, the adapter changes nothing"
    elif zeros := norms.count(0.0):
        yield f"the delta of {zeros} of {len(norms)} modules is zero"
    if_16bit = (
        "taken as trained on 16-bit weights, to which dense exports add it; if the base was in "
        "4 bits (QLoRA)"
    )
    yield from about_training(adapter, trained_on, if_16bit)


LORA = Dialect(
    kind=LoraAdapter,
    reads=lambda path: method_of(path) == "LORA",
    files=adapter_files,
    load=load_lora_adapter,
    layers=named_layers,
    deltas=LoraDeltas,
    inspect=_inspect,
)
