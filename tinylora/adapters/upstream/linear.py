"""A linear layer with a TinyLoRA update of upstream's dialect: y = base(x) + x Vhᵀ Rᵀ (U S)ᵀ."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams, add_update
from tinylora.adapters.options import Formula, Numerics
from tinylora.adapters.upstream.arithmetic import bf16_factors, core_matrix, left_factor
from tinylora.svd.factors import Factors


class TinyLoRALinear(AdaptedLinear):
    """A linear module and its TinyLoRA update, in upstream's dialect.

    Args:
        base_layer: ``nn.Linear`` or bitsandbytes ``Linear4bit``; not changed.
        global_params: Holder of the shared vector, shared by all wrappers.
        factors: Leading factors of the base's weight.
        projection: P of this module, ``[u, r, r]`` (full) or ``[u, r]`` (else).
        formula: Which formula.
        numerics: ``fp32``, or ``trainer`` to form ΔW in bf16 as the trainer did.
    """

    US: Tensor
    Vh: Tensor
    P: Tensor
    U: Tensor
    S: Tensor

    def __init__(
        self,
        base_layer: nn.Module,
        global_params: TinyLoRAGlobalParams,
        factors: Factors,
        projection: Tensor,
        formula: Formula,
        numerics: Numerics = "fp32",
    ) -> None:
        super().__init__(base_layer, global_params)
        self.formula = formula
        self.numerics = numerics
        weight: Tensor = base_layer.weight  # type: ignore[assignment]
        U, S, Vh = (t.to(weight.device).float() for t in bf16_factors(factors))
        for name, tensor in {"U": U, "S": S, "Vh": Vh, "US": U * S}.items():
            self.register_buffer(name, tensor, persistent=False)
        self.register_buffer("P", projection.to(weight.device).float(), persistent=False)

    def delta(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``, differentiable in the shared vector."""
        left = left_factor(self.U, self.S, self.core(), self.numerics, self.formula)
        product = left @ self.Vh
        return product.to(torch.bfloat16).float() if self.numerics == "trainer" else product

    def forward(self, x: Tensor) -> Tensor:
        """``base(x) + x ΔWᵀ``, in the dtype of ``base(x)``.

        Args:
            x: ``[..., in]``.
        """
        base: Tensor = self.base_layer(x)
        if self.numerics == "trainer":
            return base + (x.to(torch.bfloat16) @ self.delta().to(torch.bfloat16).T).to(base.dtype)
        update = linear(linear(linear(x.float(), self.Vh), self.core()), self.US)
        return add_update(base, update)

    def _core_of(self, vector: Tensor) -> Tensor:
        return core_matrix(vector.to(self.P.device).float(), self.P, self.formula)
