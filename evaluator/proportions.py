"""Pass rates with intervals, and what several samples of one problem are worth.

Shapes: m problems, n samples of each; ``passes`` is bool [m, n].
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from evaluator.tango import Interval

# With fewer problems that vary, the variance between problems is not estimated but bounded.
_ENOUGH_PROBLEMS = 10


def design_effect(values: npt.NDArray[np.floating]) -> float:
    """By how much clustering inflates the variance of the mean (Kish 1965).

    The variance of the mean with problems as the units (the sandwich estimate) over the variance
    if all m·n values were independent. It is 1 for one sample a problem, and held within [1, n]:
    at worst the samples of a problem are copies. Where fewer than ten problems differ from the
    median one the ratio cannot be estimated and the worst case is taken.

    Args:
        values: float [m, n], outcomes or differences of outcomes.
    """
    problems, samples = values.shape
    if samples == 1:
        return 1.0
    means = values.mean(axis=1)
    if np.count_nonzero(means != np.median(means)) < _ENOUGH_PROBLEMS:
        return float(samples)
    clustered = means.var(ddof=1) / problems
    independent = values.var(ddof=1) / values.size
    return float(np.clip(clustered / independent, 1.0, samples))


def wilson_interval(successes: float, trials: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927).

    Args:
        successes: Not necessarily whole: effective counts are allowed.
        trials: Greater than 0.
        level: Confidence.

    >>> interval = wilson_interval(8, 10)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4902, 0.9433)
    """
    z = float(norm.ppf(0.5 + level / 2))
    rate = successes / trials
    center = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + (z / trials) ** 2 / 4)
    return Interval(max(0.0, center - half), min(1.0, center + half), level)


def pass_rate_interval(passes: npt.NDArray[np.bool_], level: float = 0.95) -> Interval:
    """Wilson interval of pass@1, on the effective number of samples.

    Args:
        passes: bool [m, n].
        level: Confidence.
    """
    effective = passes.size / design_effect(passes.astype(np.float64))
    return wilson_interval(float(passes.mean()) * effective, effective, level)


def pass_at_k(passes: npt.NDArray[np.bool_], k: int) -> float:
    """Unbiased estimate of the chance that one of k samples passes, averaged over problems.

    1 − C(n−c, k) / C(n, k) with c of n samples passed (Chen et al.: "Evaluating large language
    models trained on code", 2021).

    Args:
        passes: bool [m, n].
        k: 1 ≤ k ≤ n.

    Raises:
        ValueError: k outside 1 … n.

    >>> pass_at_k(np.array([[True, False, False, False]]), 2)
    0.5
    """
    samples = passes.shape[1]
    if not 1 <= k <= samples:
        raise ValueError(f"pass@k needs 1 ≤ k ≤ {samples} samples, found k={k}")
    draws = math.comb(samples, k)
    failing = [math.comb(samples - int(c), k) / draws for c in passes.sum(axis=1)]
    return 1.0 - math.fsum(failing) / len(failing)
