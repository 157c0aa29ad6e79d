"""Which modules to keep in 16 bits, so that the least output error is left for the bytes.

Storing module i in 4 bits moves the output by gᵢ. To first order the errors add up, so with K the
modules kept, the squared error is ‖Σ gᵢ, i ∉ K‖² = Σ Gᵢⱼ over the others, G = gᵀg. Errors may point
against each other, which is why their sizes alone do not decide. This knapsack with a quadratic
value is solved greedily (Dantzig, "Discrete-Variable Extremum Problems", 1957).
"""

import math
from collections.abc import Sequence

from torch import Tensor


def choose_kept(
    gram: Tensor, extra_bytes: Sequence[int], *, target: float, budget: int | None = None
) -> list[int]:
    """Indices of the modules to keep, in the order in which they were taken.

    The predicted error is at most ``target`` then, unless the budget or the modules ran out.

    Args:
        gram: ⟨gᵢ, gⱼ⟩, float64 ``[n, n]``.
        extra_bytes: What keeping each module costs, bytes above 0.
        target: Stop when ‖Σ gᵢ‖ over the modules not kept is at most this.
        budget: Most extra bytes; None: no limit.
    """
    left, kept, spent = set(range(len(extra_bytes))), list[int](), 0
    while left and predicted_error(gram, left) > target:
        room = math.inf if budget is None else budget - spent
        affordable = [i for i in left if extra_bytes[i] <= room]
        rows = sorted(left)  # how much the squared error falls when one of them is kept
        gains = {
            i: float(2 * gram[i, rows].sum() - gram[i, i]) / extra_bytes[i] for i in affordable
        }
        # ties, and gains of rounding noise only, are settled by position
        best = max(sorted(gains), key=lambda i: gains[i], default=None)
        if best is None or (gains[best] <= 0 and budget is not None):
            break
        left.remove(best)
        kept.append(best)
        spent += extra_bytes[best]
    return _without_the_needless(gram, extra_bytes, left, kept, target)


def predicted_error(gram: Tensor, stored: set[int]) -> float:
    """‖Σ gᵢ‖ over the modules stored in 4 bits."""
    rows = sorted(stored)
    return math.sqrt(max(float(gram[rows][:, rows].sum()), 0.0)) if rows else 0.0


def _without_the_needless(
    gram: Tensor, extra_bytes: Sequence[int], left: set[int], kept: list[int], target: float
) -> list[int]:
    before: set[int] | None = None
    while left != before:  # where errors cancel, one that goes back can make another needless
        before = left
        for index in sorted(set(kept) - left, key=lambda i: (-extra_bytes[i], i)):
            without = left | {index}
            if predicted_error(gram, without) <= max(target, predicted_error(gram, left)):
                left = without
    return [index for index in kept if index not in left]
