"""A linear layer with an adapter on it at run time: what the wrappers of all dialects share.

ΔW is not formed: y = base(x) + ((x Aᵀ) Rᵀ) Bᵀ is work of rank r, differentiable in what was
trained.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class TinyLoRAGlobalParams(nn.Module):
    """Holder of the shared vector, as in the trainer.

    Args:
        u_dim: Length u; ``(groups, u)`` for a PEFT adapter that trained several vectors.

    Attributes:
        global_v: Parameter ``[u]`` or ``[groups, u]``; at first zeros, which change nothing.
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
    """A linear module, ``nn.Linear`` or ``Linear4bit`` and not changed, and its update.

    Frozen parts of the update are buffers. They move with the model and stay fp32 if it is cast.
    """

    in_features: int
    out_features: int

    def __init__(self, base_layer: nn.Module, global_params: TinyLoRAGlobalParams) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.in_features = base_layer.in_features  # type: ignore[assignment]
        self.out_features = base_layer.out_features  # type: ignore[assignment]
        # a list, so that the shared holder is not registered once in every wrapper
        self._shared = [global_params]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        frozen = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in frozen.items():
            moved = self._buffers[name]
            assert tensor is not None and moved is not None, "every buffer is a tensor"
            self._buffers[name] = tensor.to(moved.device)
        return self

    @property
    def weight(self) -> Tensor:
        """The base's weight, for code that asks a linear module for its dtype or device."""
        return self.base_layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        return self.base_layer.bias  # type: ignore[return-value]

    def matrices(self) -> tuple[Tensor, ...]:
        """fp32 matrices whose product is ΔW, differentiable in what was trained."""
        raise NotImplementedError

    def delta(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``, differentiable in what was trained."""
        return reduce(torch.matmul, self.matrices())

    def forward(self, x: Tensor) -> Tensor:
        """``base(x) + x ΔWᵀ`` of ``[..., in]``, in the dtype of ``base(x)``."""
        base: Tensor = self.base_layer(x)
        update = reduce(linear, reversed(self.matrices()), x.float())
        if base.dtype == torch.float64:
            return base + update
        # for a batch of some sequences, memory for one more [..., out] costs more than the addition
        return update.add_(base).to(base.dtype)
