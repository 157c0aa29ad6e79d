"""Tango's score interval for the difference of two paired proportions.

T. Tango: "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17 (1998) 891-908. Of n pairs, b were passed by the
first arm alone and c by the second alone; λ = P(first alone) − P(second alone) is estimated by
(b − c) / n. The interval holds every λ that the score test does not reject, |T(λ)| ≤ z:

    T(λ) = (b − c − nλ) / sqrt(n (2 q + λ (1 − λ)))
    q    = (sqrt(B² − 4AC) − B) / (2A)          P(second alone), most likely under λ
    A = 2n,  B = −b − c + (2n − b + c) λ,  C = −c λ (1 − λ)

It needs no correction for small counts and is valid with b = c = 0, where its limits are
±z² / (n + z²). The counts need not be whole: clustered data enter as effective counts (Rao and
Scott: "A simple method for the analysis of clustered binary data", Biometrics 48, 1992).
"""

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.stats import norm

_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Interval:
    """A confidence interval; ``low ≤ high``, both as proportions."""

    low: float
    high: float
    level: float


def tango_interval(b: float, c: float, n: float, level: float = 0.95) -> Interval:
    """Score interval of P(first alone) − P(second alone).

    Args:
        b: Pairs that only the first arm passed.
        c: Pairs that only the second arm passed.
        n: All pairs, ``n ≥ b + c``, ``n > 0``.
        level: Confidence, between 0 and 1.

    Raises:
        ValueError: Counts that cannot be, or a level outside (0, 1).

    >>> interval = tango_interval(1, 7, 21)
    >>> round(interval.low, 3), round(interval.high, 3)
    (-0.517, -0.026)
    """
    if not (b >= 0 and c >= 0 and n > 0 and b + c <= n * (1 + 1e-9)):
        raise ValueError(f"expected b, c ≥ 0 and b + c ≤ n > 0, found b={b}, c={c}, n={n}")
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, found {level}")
    z = float(norm.ppf(0.5 + level / 2))
    return Interval(-_upper_limit(c, b, n, z), _upper_limit(b, c, n, z), level)


def shown_margin(n: float, level: float = 0.90) -> float:
    """The smallest equivalence margin that n pairs without any flip can show.

    >>> round(shown_margin(133), 3)
    0.02
    """
    z = float(norm.ppf(0.5 + level / 2))
    return z * z / (n + z * z)


def score_statistic(difference: float, b: float, c: float, n: float) -> float:
    """T(λ) of the module's docstring, at λ = ``difference`` inside (−1, 1)."""
    spread = difference * (1 - difference)
    half_a, minus_b = 2 * n, b + c - (2 * n - b + c) * difference
    root = math.sqrt(max(0.0, minus_b**2 + 4 * half_a * c * spread))
    q = (root + minus_b) / (2 * half_a)
    variance = n * (2 * q + spread)
    distance = b - c - n * difference
    if variance <= 0:  # λ = 0 without a flip, or a rounding away from it
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _upper_limit(b: float, c: float, n: float, z: float) -> float:
    """The λ above the estimate at which T falls to −z."""
    estimate = (b - c) / n
    highest = 1 - _TOLERANCE
    if estimate >= highest:
        return 1.0
    if score_statistic(highest, b, c, n) > -z:
        return 1.0
    root = brentq(
        lambda x: max(score_statistic(x, b, c, n), -1e6) + z, estimate, highest, xtol=_TOLERANCE
    )
    return float(root)
