"""ΔW of each module, as a product of two thin matrices.

With U, S, Vh the leading factors of W, P the projections and v the trained vector, all in bf16:

=============  ===========================  ====================================
formula        core R                       ΔW
=============  ===========================  ====================================
``full``       R = Σᵢ vᵢ Pᵢ                 U · diag(S) · R · Vh
``diagonal``   R = diag(v @ P)              U · diag(S ∘ (v @ P)) · Vh
=============  ===========================  ====================================

``diagonal-unscaled`` is ``diagonal`` with another P, see ``projection``.

Shapes: out, in = the module's sides; r = rank; u = numel(v); n = number of modules.
"""

import torch
from torch import Tensor

from tinylora.adapters.options import Formula, Numerics
from tinylora.svd.factors import Factors


def core_matrix(global_v: Tensor, projection: Tensor, formula: Formula) -> Tensor:
    """R of one module or of many at once.

    Args:
        global_v: ``[u]``.
        projection: ``[..., u, r, r]`` (full) or ``[..., u, r]`` (else), of the same dtype.
        formula: Which of the two.

    Returns:
        ``[..., r, r]``, differentiable in ``global_v``.
    """
    if formula == "full":
        return (global_v @ projection.flatten(-2)).view(
            projection.shape[:-3] + projection.shape[-2:]
        )
    return torch.diag_embed(global_v @ projection)


def left_factor(U: Tensor, S: Tensor, R: Tensor, numerics: Numerics, formula: Formula) -> Tensor:
    """U · diag(S) · R, ``[out, r]``, in the dtype of the arguments.

    Args:
        U: ``[out, r]``.
        S: ``[r]``.
        R: ``[r, r]``.
        numerics: ``trainer`` rounds R and each product to bf16, in the trainer's order.
        formula: Decides that order.
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
