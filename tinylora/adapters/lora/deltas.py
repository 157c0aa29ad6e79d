"""The deltas of a LoRA adapter on the modules of one base."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams, add_update
from tinylora.adapters.lora.adapter import LoraAdapter
from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
from tinylora.errors import OptionsError, TargetMismatchError
from tinylora.weights.quantized_weight import QuantizedWeight


class LoraDeltas:
    """See :class:`tinylora.adapters.adapter.ModuleDeltas`.

    Args:
        adapter: The adapter.
        names: Its modules, in the order of the base.

    Attributes:
        names: As given.
        vectors: Empty, ``[1, 0]``: no vector is shared.
        weight_tying: 0.0.
        resolved: None: there is nothing to decide.
        doubts: None.
    """

    def __init__(self, adapter: LoraAdapter, names: Sequence[str]) -> None:
        self.adapter = adapter
        self.names = tuple(names)
        self.vectors = torch.zeros(1, 0)
        self.weight_tying = 0.0
        self.resolved = None
        self.doubts: tuple[str, ...] = ()

    def module(
        self, name: str, weight: Callable[[], QuantizedWeight | Tensor] | None = None
    ) -> "LoraModuleDelta":
        """The delta of a module; nothing of its weight is needed.

        Raises:
            TargetMismatchError: No such target module.
            ArtifactError: The file has gone.
        """
        if name not in self.adapter.shapes:
            raise TargetMismatchError(f"{name!r} is not among the {len(self.names)} target modules")
        return LoraModuleDelta(self.adapter, name)


@dataclass(frozen=True, eq=False)
class LoraModuleDelta:
    """The delta of one module, see :class:`tinylora.adapters.adapter.ModuleDelta`."""

    adapter: LoraAdapter
    name: str
    factors: None = None

    def low_rank(self) -> LowRankDelta:
        """ΔW = (scale · B) · A, of the module's own rank."""
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

    Args:
        base_layer: ``nn.Linear`` or bitsandbytes ``Linear4bit``; not changed.
        global_params: Shared by all wrappers; holds nothing.
        delta: The update.

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

    def delta(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``, differentiable in A and B."""
        return self.B.float() @ self.A.float()

    def forward(self, x: Tensor) -> Tensor:
        """``base(x) + x ΔWᵀ``, in the dtype of ``base(x)``.

        Args:
            x: ``[..., in]``.
        """
        base: Tensor = self.base_layer(x)
        return add_update(base, linear(linear(x.float(), self.A.float()), self.B.float()))
