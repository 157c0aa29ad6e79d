"""Tango's score interval for the difference of two paired proportions.

T. Tango, Statistics in Medicine 17 (1998) 891-908. Of n pairs, b were passed by the first arm alone
and c by the second alone; the interval holds every λ that the score test does not reject:

    T(λ) = (b − c − nλ) / sqrt(n (2 q + λ (1 − λ)))
    q    = (sqrt(B² − 4AC) − B) / (2A)          P(second alone), most likely under λ
    A = 2n,  B = −b − c + (2n − b + c) λ,  C = −c λ (1 − λ)
"""

import numpy as np
import numpy.typing as npt

from evaluator.statistics.score_interval import Floats, Interval, invert, tail_of


def tango_interval(b: int, c: int, n: int, level: float = 0.95) -> Interval:
    """Score interval of P(first alone) − P(second alone), with b and c of n pairs.

    >>> interval = tango_interval(1, 7, 21)
    >>> round(interval.low, 3), round(interval.high, 3)
    (-0.517, -0.026)
    """
    if not (b >= 0 and c >= 0 and n > 0 and b + c <= n):
        raise ValueError(f"expected b, c ≥ 0 and b + c ≤ n > 0, found b={b}, c={c}, n={n}")
    return invert(lambda x: score_statistic(x, b, c, n), (b - c) / n, (-1.0, 1.0), tail_of(level))


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
