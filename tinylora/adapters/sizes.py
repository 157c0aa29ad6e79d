"""Sizes of an adapter's tensors, and what no adapter exceeds."""

from dataclasses import dataclass

MAX_U = 1 << 16
MAX_RANK = 1 << 10
# P of one module, which a file of 2 kB would have us draw, whatever its size.
MAX_PROJECTION = 1 << 26


@dataclass(frozen=True)
class AdapterSizes:
    """Sizes of an adapter's tensors, known before anything is computed.

    Attributes:
        rank: Rank r; the largest one where modules differ.
        u: Length of a trained vector; 0 for LoRA, which has none.
        groups: Number of trained vectors.
        capped: Whether a module with a side shorter than r has that side's rank instead (PEFT), or
            there can be no such module (upstream).
    """

    rank: int
    u: int
    groups: int
    capped: bool

    def rank_of(self, shape: tuple[int, int]) -> int:
        """Rank of a module whose weight has a shape ``(out, in)``."""
        return min(self.rank, *shape)
