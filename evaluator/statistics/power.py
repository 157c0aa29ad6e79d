"""What verdict a run can be expected to give: exact chances, by enumeration of its flips.

Of m problems each flips with chance ψ, and gains with (ψ + d) / 2, loses with (ψ − d) / 2, where d
is the true difference. The verdict follows from the numbers of flips and gains by the rule of
``compare``. With n samples a problem ψ is the mean square of the mean difference, which is
ψ(1 + (n − 1)ρ) / n where differences of samples correlate by ρ within a problem.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

from evaluator.statistics.few_flips import LEVEL, fewest_problems, most_net_flips
from evaluator.statistics.looks import ONLY_LOOK, Look
from evaluator.statistics.score_interval import Floats
from evaluator.statistics.tango import score_statistic

POWER = 0.8

_RARE = 1e-9  # tail of the number of flips that is left out at each end
_MOST_K = 1 << 11  # numbers of flips that are looked at
_STEPS = 1 << 25  # of margins and differences
_BEYOND = 1e6  # a z that no run reaches, and finite, as it is multiplied by 0 flips
_AT_ONCE = 3_000  # numbers of problems times spread of their flips


class Chances(NamedTuple):
    """Of each verdict; float [r]. The rest is ``inconclusive``."""

    match: Floats
    differ: Floats


def verdict_chances(
    problems: npt.ArrayLike,
    flip_rate: npt.ArrayLike,
    difference: npt.ArrayLike,
    margin: npt.ArrayLike,
    look: Look = ONLY_LOOK,
) -> Chances:
    """Chances of ``match`` and ``differ``, exactly under the model above; all broadcast to [r].

    The flip rate is at least |difference|. Of several looks, at this one taken alone.
    """
    given = (problems, flip_rate, difference, margin)
    rows = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in given))
    m, psi, d, delta = (row[:, None] for row in rows)
    fewest, most = binom.ppf(_RARE, m, psi), binom.isf(_RARE, m, psi)
    # all k where they are few; else equally spaced ones, as the chance changes slowly with k
    step = np.ceil((most - fewest + 1) / _MOST_K)
    k = fewest + step * np.arange(np.max((most - fewest) // step) + 1)
    weight = np.where(k > most, 0, binom.pmf(k, m, psi))
    k, weight = np.minimum(k, most), weight / weight.sum(axis=1, keepdims=True)
    gain = np.where(psi > 0, (1 + d / np.where(psi > 0, psi, 1)) / 2, 0.5)
    within = _most_gained_in_a_match(k, m, delta, look.level(LEVEL))
    match = binom.cdf(within, k, gain) - binom.cdf(k - within - 1, k, gain)
    # Tango's 95 % interval excludes 0 where |b − c| / √(b + c) > z.
    z = min(float(norm.isf(look.level(LEVEL / 2))), _BEYOND)
    excluding = np.maximum(within, np.floor((k + z * np.sqrt(k)) / 2))
    differ = binom.sf(excluding, k, gain) + binom.cdf(k - excluding - 1, k, gain)
    return Chances((weight * np.maximum(match, 0)).sum(axis=1), (weight * differ).sum(axis=1))


def _most_gained_in_a_match(k: Floats, m: Floats, delta: Floats, level: float) -> Floats:
    """Of k flips, how many may be gained (or lost) in a match; fewer than k / 2 where none may.

    T(δ) rises with the gained ones, so halving finds the last below −z. The exact test on net flips
    may allow fewer.
    """
    flips = np.minimum(k, m)
    low, high = np.broadcast_arrays(np.ceil(k / 2) - 1, flips)
    z = min(float(norm.isf(level)), _BEYOND)
    while np.any(low < high):
        middle = np.ceil((low + high) / 2)
        holds = score_statistic(delta, middle, flips - middle, m) < -z
        low, high = np.where(holds, middle, low), np.where(holds, high, middle - 1)
    return np.asarray(np.minimum(low, np.floor((flips + most_net_flips(m, delta, level)) / 2)))


def provable_margin(problems: int, flip_rate: float, look: Look = ONLY_LOOK) -> float | None:
    """The smallest δ at which equal arms are called a match with the chance ``POWER``, or None.

    >>> round(provable_margin(149, 0.0), 4), round(provable_margin(1000, 0.02), 4)
    (0.0199, 0.0138)
    """
    return _least(lambda x: verdict_chances(problems, flip_rate, 0.0, x, look).match[0] >= POWER)


def detectable_difference(
    problems: int, flip_rate: float, margin: float, power: float = POWER, look: Look = ONLY_LOOK
) -> float | None:
    """The smallest true difference that is called ``differ`` with the chance ``power``, or None.

    A difference of more than the flip rate makes as many flips as it needs, all one way.
    """

    def is_seen(difference: float) -> bool:
        flips = max(flip_rate, difference)
        return bool(verdict_chances(problems, flips, difference, margin, look).differ[0] >= power)

    return _least(is_seen)


def _least(holds: Callable[[float], bool]) -> float | None:
    """The least x in (0, 1) from which on the condition holds, on a fine grid, or None."""
    steps = range(1, _STEPS)  # at 1 T is not defined
    found = bisect_left(steps, True, key=lambda step: holds(step / _STEPS))
    return steps[found] / _STEPS if found < len(steps) else None


def problems_needed(
    margin: float, flip_rate: float, power: float = POWER, look: Look = ONLY_LOOK
) -> int:
    """How many problems it takes for equal arms to be called a match with the chance ``power``.

    Of several looks, at this one taken alone.

    Flips are whole, so the chance has teeth as problems are added: the answer is the number from
    which on it stays at ``power`` or above. Where flips are many the teeth are flat, and only some
    of the numbers are looked at.

    >>> [problems_needed(margin, 0.0) for margin in (0.02, 0.01, 0.005)]
    [149, 299, 598]
    """
    least = fewest_problems(margin, look.level(LEVEL)) - 1
    z = float(norm.isf(look.level(LEVEL)) + norm.isf((1 - power) / 2))
    normal = flip_rate * (z / margin) ** 2
    low = max(least, int(normal - 2 / margin))
    high = max(least, int(normal)) + int(4 / margin)
    looked_at = int(np.clip(_AT_ONCE / (1 + np.sqrt(flip_rate * high)), 32, 512))
    while True:
        step = max(1, (high - low) // looked_at)
        tried = np.arange(low, high + step, step)
        found = verdict_chances(tried, flip_rate, 0.0, margin, look).match
        failing = np.flatnonzero(found < power)
        if failing.size == 0:  # never at ``least``
            low, high = max(least, low - int(8 / margin)), low
            continue
        last = int(tried[failing[-1]])
        if last == tried[-1]:
            low, high = high, 2 * high
        elif step == 1:
            return last + 1
        else:
            low, high = last, last + 4 * step
