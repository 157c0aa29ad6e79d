"""The deltas of a LoRA adapter on the modules of one base."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams
from tinylora.adapters.adapter import position
from tinylora.adapters.lora.adapter import LoraAdapter
from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
from tinylora.adapters.peft_dialect import StoredDeltas
from tinylora.errors import OptionsError
from tinylora.weights.quantized_weight import QuantizedWeight


class LoraDeltas(StoredDeltas):
    """The deltas of an adapter on its modules, named in the order of the base."""

    weight_tying = 0.0

    def __init__(self, adapter: LoraAdapter, names: Sequence[str]) -> None:
        super().__init__(names)
        self.adapter = adapter
        self.vectors = torch.zeros(1, 0)  # none is shared

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
        """ΔW = (scale · B) · A, of the module's own rank; an ArtifactError if the file has gone."""
        a, b = self.adapter.read(self.name)
        return LowRankDelta(
            (b.double() * self.adapter.config.scale_of(self.name)).float(), a.float()
        )

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
