"""The exact test that a match needs beside its interval, because flips may be few.

Score intervals are most wrong where all flips go one way and hardly any is seen. So so few net
flips k = |gained − lost| must be rare in m problems of which an arm loses δ:

    P(K ≤ k) ≤ 5 %,    K ~ Binomial(m, δ)

Without a flip that takes 3 / δ problems, the rule of three (Hanley and Lippman-Hand, 1983).
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from evaluator.statistics.score_interval import Floats

LEVEL = 0.05  # of a match


def few_enough(
    net_flips: npt.ArrayLike, problems: npt.ArrayLike, margin: npt.ArrayLike
) -> npt.NDArray[np.bool_]:
    """Whether k net flips of m problems are so few that a loss of δ is ruled out; all broadcast.

    >>> few_enough(0, [148, 149], 0.02).tolist(), few_enough([3, 4], 400, 0.02).tolist()
    ([False, True], [True, False])
    """
    return np.asarray(chance_of_so_few(net_flips, problems, margin) <= LEVEL)


def chance_of_so_few(
    net_flips: npt.ArrayLike, problems: npt.ArrayLike, margin: npt.ArrayLike
) -> Floats:
    """P(K ≤ k) of the module's docstring; arguments as above."""
    return np.asarray(binom.cdf(np.floor(net_flips), problems, margin))


def most_net_flips(problems: Floats, margin: Floats) -> Floats:
    """The most whole net flips that are few enough; −1 where none are."""
    return np.asarray(binom.ppf(LEVEL, problems, margin) - 1, dtype=np.float64)


def shown_margin(problems: int) -> float:
    """The smallest δ that m problems without any flip can show.

    >>> round(shown_margin(149), 4)
    0.0199
    """
    return -math.expm1(math.log(LEVEL) / problems)


def fewest_problems(margin: float) -> int:
    """The fewest problems that can show δ, by showing no flip.

    >>> [fewest_problems(margin) for margin in (0.05, 0.02, 0.01, 0.005)]
    [59, 149, 299, 598]
    """
    return math.ceil(math.log(LEVEL) / math.log1p(-margin))
