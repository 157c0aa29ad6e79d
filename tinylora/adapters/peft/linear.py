"""A linear layer with a TinyLoRA update of PEFT's dialect: y = base(x) + x Aᵀ Rᵀ Bᵀ."""

from torch import Tensor, nn
from torch.nn.functional import linear

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams, add_update
from tinylora.adapters.low_rank import TinyLoRAParts


class PeftTinyLoRALinear(AdaptedLinear):
    """A linear module and its TinyLoRA update, in PEFT's dialect.

    Args:
        base_layer: ``nn.Linear`` or bitsandbytes ``Linear4bit``; not changed.
        global_params: Holder of the vectors, ``[u]`` or ``[groups, u]``.
        parts: A, B, P and the row of the module's own vector.
    """

    A: Tensor
    B: Tensor
    P: Tensor

    def __init__(
        self, base_layer: nn.Module, global_params: TinyLoRAGlobalParams, parts: TinyLoRAParts
    ) -> None:
        super().__init__(base_layer, global_params)
        self.group = parts.group
        device = self.weight.device
        for name, tensor in {"A": parts.A, "B": parts.B, "P": parts.P}.items():
            self.register_buffer(name, tensor.to(device), persistent=False)

    def delta(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``, differentiable in the trained vector."""
        return self.B @ self.core() @ self.A

    def forward(self, x: Tensor) -> Tensor:
        """``base(x) + x ΔWᵀ``, in the dtype of ``base(x)``.

        Args:
            x: ``[..., in]``.
        """
        base: Tensor = self.base_layer(x)
        update = linear(linear(linear(x.float(), self.A), self.core()), self.B)
        return add_update(base, update)

    def _core_of(self, vector: Tensor) -> Tensor:
        own = (vector if vector.dim() == 1 else vector[self.group]).to(self.P.device).float()
        return (own @ self.P.flatten(-2)).view(self.P.shape[1:])
