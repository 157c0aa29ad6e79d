"""A delta of low rank, as every dialect gives it for each module."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

# Pieces of a dense ΔW stay in a core's cache with what is made of them. They are cut from products
# of enough rows that BLAS multiplies these as it would the whole (one of very few rows takes
# another path and rounds otherwise).
_PIECE_ELEMENTS = 1 << 17
_PIECE_ELEMENTS_ON_DEVICE = 1 << 24
_PRODUCT_ROWS = 64


@dataclass(frozen=True, eq=False)
class LowRankDelta:
    """ΔW = left · right, fp32 ``[out, r]`` and ``[r, in]``.

    Attributes:
        rounding: Dtype that the trainer rounded the product to; None under fp32 numerics.
    """

    left: Tensor
    right: Tensor
    rounding: torch.dtype | None = None

    def to(self, device: torch.device) -> "LowRankDelta":
        """The delta on a device."""
        return replace(self, left=self.left.to(device), right=self.right.to(device))

    def padded(self, rank: int) -> "LowRankDelta":
        """The same delta with zeros up to a rank that is not below its own."""
        missing = rank - self.right.shape[0]
        if not missing:
            return self
        return replace(
            self, left=pad(self.left, (0, missing)), right=pad(self.right, (0, 0, 0, missing))
        )

    def dense(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``."""
        return self._rows(slice(None))

    def squared_norm(self) -> float:
        """‖ΔW‖² of what is not rounded, in float64, without forming ΔW."""
        left, right = self.left.double(), self.right.double()
        return max(float(((left.T @ left) * (right @ right.T)).sum()), 0.0)

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """ΔW in rows: which rows, and their values, fp32; bit for bit those of :meth:`dense`."""
        on_cpu, rows = self.left.device.type == "cpu", self.left.shape[0]
        elements = _PIECE_ELEMENTS if on_cpu else _PIECE_ELEMENTS_ON_DEVICE
        step = max(1, elements // self.right.shape[1])
        count = max(1, rows // max(_PRODUCT_ROWS, step))
        for i in range(count):
            start, stop = rows * i // count, rows * (i + 1) // count
            for piece in torch.split(self._rows(slice(start, stop)), step):
                yield slice(start, start + len(piece)), piece
                start += len(piece)

    def rows(self, index: Tensor) -> Tensor:
        """ΔW of the rows ``[k]``, fp32 ``[k, in]``; bit for bit those of :meth:`dense`."""
        count = index.numel()
        if self.left.shape[0] <= _PRODUCT_ROWS:
            return self.dense().index_select(0, index)
        if count < _PRODUCT_ROWS:
            spare = index.new_zeros(_PRODUCT_ROWS - count)
            return self._rows(torch.cat([index, spare]))[:count]
        return self._rows(index)

    def _rows(self, part: slice | Tensor) -> Tensor:
        product = self.left[part] @ self.right
        return product if self.rounding is None else product.to(self.rounding).float()


@dataclass(frozen=True, eq=False)
class TinyLoRAParts:
    """ΔW = B · (Σᵢ vᵢ Pᵢ) · A, the frozen parts of one module as PEFT stores them.

    fp32 A ``[r, in]``, B ``[out, r]`` and P ``[u, r, r]``; ``group`` is the row of the adapter's
    vectors that is this module's v.
    """

    A: Tensor
    B: Tensor
    P: Tensor
    group: int

    def low_rank(self, vector: Tensor) -> LowRankDelta:
        """ΔW for a vector ``[u]``; float64 in between, as the sums over u may cancel."""
        core = torch.einsum("i,ijk->jk", vector.double(), self.P.double())
        return LowRankDelta((self.B.double() @ core).float(), self.A)
