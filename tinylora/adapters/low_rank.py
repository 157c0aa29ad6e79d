"""What both dialects come down to: a delta of low rank for each module.

Everything behind an adapter (folding, restoring, measuring) asks for these and nothing else, so it
does not know whether upstream's ``tiny_lora_v.pt`` or a PEFT adapter is in use.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from tinylora.adapters.upstream.options import ResolvedOptions
from tinylora.svd.factors import Factors
from tinylora.weights.quantized_weight import QuantizedWeight

# Pieces of a dense ΔW: small enough for a core's cache, with enough rows that BLAS multiplies a
# piece as it would the whole (a product of very few rows takes another path and rounds otherwise).
_PIECE_ELEMENTS = 1 << 18
_PIECE_ROWS = 64


@dataclass(frozen=True, eq=False)
class LowRankDelta:
    """ΔW = left · right.

    Attributes:
        left: fp32 ``[out, r]``, U · diag(S) · R.
        right: fp32 ``[r, in]``, Vh.
        rounding: Dtype that the trainer rounded the product to; None under fp32 numerics.
    """

    left: Tensor
    right: Tensor
    rounding: torch.dtype | None = None

    def to(self, device: torch.device) -> "LowRankDelta":
        """The delta on a device."""
        return replace(self, left=self.left.to(device), right=self.right.to(device))

    def dense(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``."""
        return self._rows(slice(None))

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """ΔW in rows: which rows, and their values, fp32; bit for bit those of :meth:`dense`."""
        rows, columns = self.left.shape[0], self.right.shape[1]
        count = max(1, rows // max(_PIECE_ROWS, _PIECE_ELEMENTS // columns))
        for i in range(count):
            part = slice(rows * i // count, rows * (i + 1) // count)
            yield part, self._rows(part)

    def rows(self, index: Tensor) -> Tensor:
        """ΔW of some rows, fp32 ``[k, in]``; bit for bit those of :meth:`dense`.

        Args:
            index: Their numbers, int64 ``[k]``.
        """
        count = index.numel()
        if self.left.shape[0] <= _PIECE_ROWS:
            return self.dense().index_select(0, index)
        if count < _PIECE_ROWS:
            spare = index.new_zeros(_PIECE_ROWS - count)
            return self._rows(torch.cat([index, spare]))[:count]
        return self._rows(index)

    def _rows(self, part: slice | Tensor) -> Tensor:
        product = self.left[part] @ self.right
        return product if self.rounding is None else product.to(self.rounding).float()


@dataclass(frozen=True, eq=False)
class TinyLoRAParts:
    """ΔW = B · (Σᵢ vᵢ Pᵢ) · A, the frozen parts of one module as PEFT stores them.

    Attributes:
        A: fp32 ``[r, in]``.
        B: fp32 ``[out, r]``.
        P: fp32 ``[u, r, r]``.
        group: Row of :attr:`ModuleDeltas.vectors` that is this module's v.
    """

    A: Tensor
    B: Tensor
    P: Tensor
    group: int

    def low_rank(self, vector: Tensor) -> LowRankDelta:
        """ΔW for a vector ``[u]``; float64 in between, as the sums over u may cancel."""
        core = torch.einsum("i,ijk->jk", vector.double(), self.P.double())
        return LowRankDelta((self.B.double() @ core).float(), self.A)


class ModuleDelta(Protocol):
    """The delta of one module, with everything costly done."""

    @property
    def factors(self) -> Factors | None:
        """Singular factors that had to be computed; None where the adapter stores its own."""

    def low_rank(self) -> LowRankDelta:
        """ΔW, of rank :attr:`ModuleDeltas.rank`."""

    def parts(self) -> TinyLoRAParts:
        """ΔW under fp32 numerics, taken apart."""


class ModuleDeltas(Protocol):
    """The deltas of one adapter on the modules of one base.

    Attributes:
        names: All target modules, in the order of the base.
        rank: Rank r of every delta.
        vectors: The trained vectors, ``[groups, u]``, on the CPU, in the dtype of the file.
        weight_tying: PEFT's measure of how many modules share a vector; 1.0: all.
    """

    names: tuple[str, ...]
    rank: int
    vectors: Tensor
    weight_tying: float

    @property
    def resolved(self) -> ResolvedOptions | None:
        """How ΔW is rebuilt; None where the adapter stores its factors and leaves no choice."""

    def module(
        self,
        name: str,
        weight: Callable[[], QuantizedWeight | Tensor],
        digest: str | None = None,
    ) -> ModuleDelta:
        """The delta of a module.

        Args:
            name: The module.
            weight: Gives its frozen weight; called only where that is needed.
            digest: :func:`tinylora.svd.factors.weight_digest` of it, where that is known.

        Raises:
            TargetMismatchError: No such target module.
            FactorizationError: The SVD failed.
        """
