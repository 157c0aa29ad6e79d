"""Score intervals: the values of a parameter that a score test does not reject.

That of a mean assumes nothing about the distribution of its m bounded values. λ is rejected where
|T(λ)| > z, with p the weights on the observed values and the two ends of the range that make the
data most likely among those with mean λ (Owen: "Empirical Likelihood", 2001):

    T(λ) = √m (x̄ − λ) / √V(λ),    V(λ) = Σ_j p_j (x_j − λ)²
    p_j = c_j / (m (1 + t (x_j − λ)))    c_j problems show x_j; t solves Σ p_j (x_j − λ) = 0

If no t that leaves 1 + t (x − λ) ≥ 0 over the whole range does, it stops at that bound, and the
weight that is left lies at the end of the range beyond λ. That is what keeps the variance from
vanishing with the flips: what was not seen in m problems may still be there, at its worst. For
−1, 0 and 1 the interval is Tango's, for 0 and 1 Wilson's (1927); see docs/statistics.md.

Where problems come in families, a family takes the place of a problem: x_k is its mean, and the
distance x_j − λ is multiplied by w_j, its size over the mean size. What was not seen is a family of
the size that a problem's family has on average.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

Floats = npt.NDArray[np.float64]

_CELLS = 100  # into which a bracket is cut at each pass
_PASSES = 6  # 100⁻⁶ of the range: 1e-12
_MARGIN = 1e-12  # relative, kept from the bound of t
_CLOSE = 1e-12  # steps of t that change nothing
_MOST_STEPS = 100


@dataclass(frozen=True)
class Interval:
    """A confidence interval; ``low ≤ high``, both as proportions."""

    low: float
    high: float
    level: float


def invert(
    statistic: Callable[[Floats], Floats],
    estimate: float,
    bounds: tuple[float, float],
    tail: float,
) -> Interval:
    """The interval of all λ within the bounds with |T(λ)| ≤ z, which is exceeded with ``tail``.

    ``statistic`` maps float [r] values of λ to T; it falls with λ and is 0 at the estimate. z is
    infinite for the tail 0, of a look that decides nothing.
    """
    z = norm.isf(tail)
    low = _last_inside(lambda x: statistic(x) <= z, estimate, bounds[0])
    high = _last_inside(lambda x: statistic(x) >= -z, estimate, bounds[1])
    return Interval(low, high, 1 - 2 * tail)


def _last_inside(
    inside: Callable[[Floats], npt.NDArray[np.bool_]], start: float, end: float
) -> float:
    """Between ``start``, which is inside, and ``end``: the last value that is."""
    for _ in range(_PASSES):
        grid = np.linspace(start, end, _CELLS + 1)
        outside = np.flatnonzero(~inside(grid[1:]))
        if outside.size == 0:
            return end
        start, end = float(grid[outside[0]]), float(grid[outside[0] + 1])
    return start


def mean_interval(
    values: Floats, bounds: tuple[float, float], level: float = 0.95, sizes: Floats | None = None
) -> Interval:
    """Score interval of the mean of independent bounded values, float [u].

    Each is a problem's, or the mean of a family of ``sizes`` problems, by which it is weighted.

    >>> interval = mean_interval(np.array([1.0] * 8 + [0.0] * 2), (0, 1))  # Wilson's
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4902, 0.9433)
    """
    statistic, estimate = score_of(values, bounds, sizes)
    return invert(statistic, estimate, bounds, (1 - level) / 2)


def score_of(
    values: Floats, bounds: tuple[float, float], sizes: Floats | None = None
) -> tuple[Callable[[Floats], Floats], float]:
    """T as a function of λ, and the estimate at which it is 0; arguments as above."""
    sizes = np.ones_like(values) if sizes is None else sizes
    # one number for each pair, as values differ by less than the bounds do
    pairs = values + sizes * 2 * (bounds[1] - bounds[0])
    _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
    distinct, shares = values[first], sizes[first] / sizes.mean()
    weights = counts.astype(np.float64)
    # Summed as in the statistic, so that T is 0 at the estimate.
    estimate = float((weights * shares * distinct).sum() / (weights * shares).sum())
    return lambda x: mean_statistic(x, distinct, weights, bounds, shares), estimate


def mean_statistic(
    means: Floats,
    distinct: Floats,
    counts: Floats,
    bounds: tuple[float, float],
    shares: Floats | None = None,
) -> Floats:
    """T(λ) of the module's docstring, float [r], for many λ or many data sets at once.

    Of ``counts`` float [r, k] or [k] units each shows one of the ``distinct`` values, float [k],
    and weighs ``shares``, float [k]; ``means`` are λ, float [r] or [1]. All lie within the bounds.
    """
    counts = np.atleast_2d(counts)
    units = counts.sum(axis=1)
    shares = np.ones_like(distinct) if shares is None else shares
    unseen = (counts * shares**2).sum(axis=1) / (counts * shares).sum(axis=1)
    distance = shares * (distinct - means[:, None])
    shift = (counts * distance).sum(axis=1) / units
    rising = shift < 0  # λ lies above the estimate: weight moves up
    beyond = unseen * (np.where(rising, bounds[1], bounds[0]) - means)
    seen = np.where(counts > 0, distance, 0)  # a large family may lie further out
    beyond = np.where(
        rising, np.maximum(beyond, seen.max(axis=1)), np.minimum(beyond, seen.min(axis=1))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        tilt = _tilt(counts, distance, -1 / beyond)
        weights = np.where(counts > 0, counts / (1 + tilt[:, None] * distance), 0)
        weights /= units[:, None]
        left = np.maximum(0, 1 - weights.sum(axis=1))
        variance = (weights * distance**2).sum(axis=1) + left * beyond**2
        statistic = np.sqrt(units) * shift / np.sqrt(variance)
    return np.where(shift == 0, 0.0, statistic)


def _tilt(counts: Floats, distance: Floats, bound: Floats) -> Floats:
    """Tilt between 0 and its bound at which the weighted mean is λ, or the bound.

    Newton's method on g(t) = Σ c (x − λ) / (1 + t (x − λ)), which falls with t, kept within a
    bracket that it halves where a step would leave it.
    """
    sign = np.sign(-bound)  # of g on the far side of its root
    near, far = np.zeros_like(bound), bound * (1 - _MARGIN)
    slack, _ = _excess(far, counts, distance)
    near = np.where(slack * sign > 0, near, far)  # no root: stay at the bound
    tilt = near
    for _ in range(_MOST_STEPS):
        excess, slope = _excess(tilt, counts, distance)
        beyond = excess * sign > 0
        near, far = np.where(beyond, near, tilt), np.where(beyond, tilt, far)
        step = tilt - excess / slope
        inside = (step - near) * (step - far) < 0
        following = np.where(near == far, near, np.where(inside, step, (near + far) / 2))
        moved = np.abs(following - tilt).max(initial=0, where=np.isfinite(bound))
        tilt = following
        if moved < _CLOSE:
            break
    return tilt


def _excess(tilt: Floats, counts: Floats, distance: Floats) -> tuple[Floats, Floats]:
    """G of ``_tilt`` and its slope, float [r] each."""
    ratio = np.where(counts > 0, distance / (1 + tilt[:, None] * distance), 0)
    return (counts * ratio).sum(axis=1), -(counts * ratio**2).sum(axis=1)
