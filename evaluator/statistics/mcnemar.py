"""Exact tests of "neither arm is better" on paired verdicts.

McNemar (1947): given the pairs that differ, under the null hypothesis each is a fair coin, so the
number of gained pairs is Binomial(gained + lost, 1/2).

With several samples of a problem the pairs of one problem are not independent. Under the same null
hypothesis the two arms of a problem are exchangeable, so the sign of the problem's whole sum of
differences is a fair coin: the sign-flip (randomization) test. With one sample it is McNemar's.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest


def exact_mcnemar(gained: int, lost: int) -> float:
    """Two-sided p-value of the exact McNemar test.

    Args:
        gained: Pairs that only the first arm passed.
        lost: Pairs that only the second arm passed.

    Returns:
        The p-value; 1 where no pair differs.

    >>> exact_mcnemar(6, 0)
    0.03125
    """
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def exact_sign_flip(differences: Sequence[int]) -> float:
    """Two-sided p-value of the sign-flip test over problems.

    The distribution of |Σ ±dᵢ| over all sign patterns, by convolution, exactly.

    Args:
        differences: One integer a problem: samples passed by the first arm minus samples passed
            by the second.

    Returns:
        P(|Σ ±dᵢ| ≥ |Σ dᵢ|).

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
