"""Tango's score interval for the difference of two paired proportions.

T. Tango, Statistics in Medicine 17 (1998) 891-908. Of n pairs, b were passed by the first arm alone
and c by the second alone; the interval holds every λ that the score test does not reject:

    T(λ) = (b − c − nλ) / sqrt(n (2 q + λ (1 − λ)))
    q    = (sqrt(B² − 4AC) − B) / (2A)          P(second alone), most likely under λ
    A = 2n,  B = −b − c + (2n − b + c) λ,  C = −c λ (1 − λ)
"""

import numpy as np
import numpy.typing as npt

from evaluator.statistics.score_interval import Floats


def score_statistic(
    difference: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike, n: npt.ArrayLike
) -> Floats:
    """T(λ) of the module's docstring at λ = ``difference``, 0 of no pairs; arguments broadcast."""
    x, b, c, n = (np.asarray(value, dtype=np.float64) for value in (difference, b, c, n))
    spread = x * (1 - x)
    minus_b = b + c - (2 * n - b + c) * x
    distance = b - c - n * x
    # No variance: λ = 0 without a flip, λ = ±1 with nothing else, a rounding away from them, n = 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        q = (np.sqrt(np.maximum(0, minus_b**2 + 8 * n * c * spread)) + minus_b) / (4 * n)
        variance = n * (2 * q + spread)
        sure = np.where(distance == 0, 0.0, np.copysign(np.inf, distance))
        return np.where(variance > 0, distance / np.sqrt(variance), sure)
