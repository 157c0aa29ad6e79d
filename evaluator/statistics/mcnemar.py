"""Exact tests of "neither arm is better" on paired verdicts.

McNemar (1947): of the pairs that differ each is a fair coin. With several samples the sign of a
problem's whole sum of differences is one: the sign-flip test, with one sample McNemar's.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest


def exact_mcnemar(gained: int, lost: int) -> float:
    """Two-sided p-value of the exact McNemar test; 1 where no pair differs.

    >>> exact_mcnemar(6, 0)
    0.03125
    """
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def exact_sign_flip(differences: Sequence[int]) -> float:
    """P(|Σ ±dᵢ| ≥ |Σ dᵢ|), exactly: the two-sided p-value of the sign-flip test over problems.

    dᵢ is the number of samples of a problem that the first arm passed minus that of the second.

    >>> exact_sign_flip([1, 1, 1, 1, 1, 1, 0])
    0.03125
    """
    sizes = [abs(d) for d in differences if d]
    reach = sum(sizes)
    probability = np.zeros(2 * reach + 1)
    probability[reach] = 1.0
    for size in sizes:
        # |Σ| ≤ reach, so nothing wraps around.
        probability = 0.5 * (np.roll(probability, size) + np.roll(probability, -size))
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(probability[sums >= abs(sum(differences))].sum()))
