"""pass@1 and pass@k with intervals in which the family, not the problem or sample, is the unit.

Shapes: m problems, n samples of each; ``passes`` is bool [m, n].
"""

import math

import numpy as np
import numpy.typing as npt

from evaluator.statistics.families import Families
from evaluator.statistics.score_interval import Floats, Interval, mean_interval

Passes = npt.NDArray[np.bool_]


def pass_at_k(passes: Passes, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples passes, averaged over problems.

    >>> pass_at_k(np.array([[True, False, False, False]]), 2)
    0.5
    """
    return math.fsum(problem_pass_at_k(passes, k)) / len(passes)


def pass_at_k_interval(passes: Passes, k: int, families: Families | None = None) -> Interval:
    """95 % score interval of pass@k over families; of one sample of lone problems Wilson's."""
    families = families or Families.alone(len(passes))
    estimates = families.means(problem_pass_at_k(passes, k))
    return mean_interval(estimates, (0.0, 1.0), sizes=families.sizes)


def problem_pass_at_k(passes: Passes, k: int) -> Floats:
    """Unbiased estimates float64 [m]: 1 − C(n−c, k) / C(n, k) with c of n samples passed.

    Chen et al.: "Evaluating large language models trained on code" (2021), equation 1.
    """
    samples = passes.shape[1]
    draws = math.comb(samples, k)
    by_count = [1 - math.comb(samples - c, k) / draws for c in range(samples + 1)]
    estimates: Floats = np.array(by_count, dtype=np.float64)[passes.sum(axis=1)]
    return estimates
