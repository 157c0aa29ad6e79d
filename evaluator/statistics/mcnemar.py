"""The exact test of "neither arm is better" on paired verdicts.

McNemar (1947): of the pairs that differ each is a fair coin. With several samples or families the
sign of a family's whole sum of differences is one: the sign-flip test, with one sample McNemar's.
"""

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

_MOST_EXACT = 20_000


def exact_sign_flip(differences: npt.NDArray[np.int64]) -> float:
    """P(|Σ ±dᵢ| ≥ |Σ dᵢ|): the two-sided p-value of the sign-flip test over families.

    dᵢ is the number of samples of a family that the first arm passed minus that of the second. It
    is exact up to Σ |dᵢ| = 20 000; above, the sum is as good as normal.

    >>> round(exact_sign_flip(np.array([1, 1, 1, 1, 1, 1, 0])), 9)
    0.03125
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total, seen = int((sizes * counts).sum()), abs(int(differences.sum()))
    if total > _MOST_EXACT:  # less by 1 for continuity: sums have steps of 2
        return float(2 * norm.sf(max(0, seen - 1) / np.sqrt((counts * sizes**2.0).sum())))
    probability = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        one = np.zeros(2 * size * count + 1)
        one[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        probability = np.convolve(probability, one)
    sums = np.abs(np.arange(-total, total + 1))
    return min(1.0, float(probability[sums >= seen].sum()))
