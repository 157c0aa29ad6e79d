"""Modules that put an adapter on a linear layer at run time.

ΔW is never formed under fp32 numerics: y = base(x) + ((x Vhᵀ) Rᵀ) (U diag(S))ᵀ, or with PEFT's
parts base(x) + ((x Aᵀ) Rᵀ) Bᵀ, work of rank r, differentiable in the trained vector.

Where no gradient is asked for, R is kept from one forward to the next: for one token, making it
takes as long as all the rest that a wrapper does.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tinylora.adapters.low_rank import TinyLoRAParts
from tinylora.adapters.upstream.delta import bf16_factors, core_matrix, left_factor
from tinylora.adapters.upstream.formula import Formula
from tinylora.adapters.upstream.options import Numerics
from tinylora.svd.factors import Factors


class TinyLoRAGlobalParams(nn.Module):
    """Holder of the shared vector, as in the trainer.

    Args:
        u_dim: Length u; ``(groups, u)`` for a PEFT adapter that trained several vectors.
        device: Device of the vector.
        dtype: Its dtype; the trainer's is bf16.

    Attributes:
        global_v: Parameter ``[u]`` or ``[groups, u]``, zeros at first, which leaves the base as it
            is.
    """

    def __init__(
        self,
        u_dim: int | Sequence[int] = 16,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__()
        self.global_v = nn.Parameter(torch.zeros(u_dim, device=device, dtype=dtype))

    def forward(self) -> Tensor:
        """The vector."""
        return self.global_v


class AdaptedLinear(nn.Module):
    """A linear module and its update; what both dialects' wrappers share.

    Args:
        base_layer: ``nn.Linear`` or bitsandbytes ``Linear4bit``; not changed.
        global_params: Holder of the trained numbers, shared by all wrappers.
    """

    def __init__(self, base_layer: nn.Module, global_params: TinyLoRAGlobalParams) -> None:
        super().__init__()
        self.base_layer = base_layer
        # a list, so that the shared holder is not registered once in every wrapper
        self._shared = [global_params]
        self._kept: tuple[Tensor, Tensor] | None = None  # values of the vector, and their R

    @property
    def weight(self) -> Tensor:
        """The base's weight, for code that asks a linear module for its dtype or device."""
        return self.base_layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        return self.base_layer.bias  # type: ignore[return-value]

    @property
    def in_features(self) -> int:
        """Columns of W."""
        return self.base_layer.in_features  # type: ignore[return-value]

    @property
    def out_features(self) -> int:
        """Rows of W."""
        return self.base_layer.out_features  # type: ignore[return-value]

    def delta(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``, differentiable in the trained vector."""
        raise NotImplementedError

    def core(self) -> Tensor:
        """R, fp32 ``[r, r]``, differentiable in the trained vector where gradients are enabled."""
        vector = self._shared[0].global_v
        # To compare values a GPU would be waited for, and a compiled forward cannot branch on them.
        on_cpu = vector.device.type == "cpu" and not torch.compiler.is_compiling()
        if torch.is_grad_enabled() or not on_cpu:
            return self._core_of(vector)
        # By value, as a change through `.data` leaves the vector's version as it was.
        if self._kept is None or not _same(self._kept[0], vector):
            with torch.inference_mode(False), torch.no_grad():
                self._kept = (vector.clone(), self._core_of(vector))
        return self._kept[1]

    def _core_of(self, vector: Tensor) -> Tensor:
        """R for a value of :attr:`TinyLoRAGlobalParams.global_v`."""
        raise NotImplementedError


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
        return _sum(base, update)

    def _core_of(self, vector: Tensor) -> Tensor:
        return core_matrix(vector.to(self.P.device).float(), self.P, self.formula)


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
        return _sum(base, update)

    def _core_of(self, vector: Tensor) -> Tensor:
        own = vector if vector.dim() == 1 else vector[self.group]
        return core_matrix(own.to(self.P.device).float(), self.P, "full")


def _sum(base: Tensor, update: Tensor) -> Tensor:
    """``base + update`` in the dtype of ``base``; the fp32 ``update`` is used up.

    For a batch of some sequences, memory for one more ``[..., out]`` costs more than the addition.
    """
    if base.dtype == torch.float64:
        return base + update
    return update.add_(base).to(base.dtype)


def _same(kept: Tensor, vector: Tensor) -> bool:
    # not every torch compares two dtypes
    return kept.dtype == vector.dtype and torch.equal(kept, vector)
