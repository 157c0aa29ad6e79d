"""ΔW of each module as a product of thin matrices, and the linear layer that applies it.

With U, S, Vh the leading factors of W, P the projections and v the trained vector, all in bf16:

=============  ===========================  ====================================
formula        core R                       ΔW
=============  ===========================  ====================================
``full``       R = Σᵢ vᵢ Pᵢ                 U · diag(S) · R · Vh
``diagonal``   R = diag(v @ P)              U · diag(S ∘ (v @ P)) · Vh
=============  ===========================  ====================================

``diagonal-unscaled`` is ``diagonal`` with another P, see ``projection``. Shapes: out, in = the
module's sides; r = rank; u = numel(v); n = number of modules.
"""

import torch
from torch import Tensor, nn

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams
from tinylora.adapters.options import Formula, Numerics
from tinylora.svd.factors import Factors


def core_matrix(global_v: Tensor, projection: Tensor, formula: Formula) -> Tensor:
    """R ``[..., r, r]`` of one module or of many, differentiable in ``global_v`` ``[u]``.

    ``projection`` is ``[..., u, r, r]`` (full) or ``[..., u, r]`` (else), of the same dtype.
    """
    if formula != "full":
        return torch.diag_embed(global_v @ projection)
    shape = projection.shape[:-3] + projection.shape[-2:]
    return (global_v @ projection.flatten(-2)).view(shape)


def left_factor(U: Tensor, S: Tensor, R: Tensor, numerics: Numerics, formula: Formula) -> Tensor:
    """U · diag(S) · R, ``[out, r]``, in the dtype of the arguments.

    ``trainer`` numerics round R and each product to bf16, in the trainer's order for the formula.
    """
    if numerics == "fp32":
        return (U * S) @ R

    def bf16(x: Tensor) -> Tensor:
        return x.to(torch.bfloat16).to(U.dtype)

    if formula == "full":
        return bf16(bf16(U * S) @ bf16(R))
    return bf16(U * bf16(S * bf16(R.diagonal())))


def bf16_factors(factors: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """U, S, Vh as the trainer kept them: rounded to bf16."""
    return tuple(t.to(torch.bfloat16) for t in (factors.U, factors.S, factors.Vh))  # type: ignore[return-value]


class TinyLoRALinear(AdaptedLinear):
    """A linear module and its TinyLoRA update: y = base(x) + x Vhᵀ Rᵀ (U S)ᵀ.

    ``projection`` is P of this module, ``[u, r, r]`` (full) or ``[u, r]`` (else); ``trainer``
    numerics form ΔW in bf16 as the trainer did.
    """

    U: Tensor
    S: Tensor
    Vh: Tensor
    US: Tensor
    P: Tensor

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
        device = self.weight.device
        U, S, Vh = (t.to(device).float() for t in bf16_factors(factors))
        P = projection.to(device).float()
        for name, tensor in {"U": U, "S": S, "Vh": Vh, "US": U * S, "P": P}.items():
            self.register_buffer(name, tensor, persistent=False)

    def matrices(self) -> tuple[Tensor, ...]:
        """U · diag(S), R and Vh."""
        return self.US, self.core(), self.Vh

    def delta(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``, differentiable in the shared vector."""
        if self.numerics == "fp32":
            return super().delta()
        left = left_factor(self.U, self.S, self.core(), self.numerics, self.formula)
        return (left @ self.Vh).to(torch.bfloat16).float()

    def forward(self, x: Tensor) -> Tensor:
        """``base(x) + x ΔWᵀ`` of ``[..., in]``, in the dtype of ``base(x)``."""
        if self.numerics == "fp32":
            return super().forward(x)
        base: Tensor = self.base_layer(x)
        return base + (x.to(torch.bfloat16) @ self.delta().to(torch.bfloat16).T).to(base.dtype)

    def core(self) -> Tensor:
        """R, fp32 ``[r, r]``, differentiable in the shared vector."""
        vector = self._shared[0].global_v.to(self.P.device).float()
        return core_matrix(vector, self.P, self.formula)
