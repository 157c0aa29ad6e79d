"""The exact test that a match needs beside its interval, because flips may be few.

Score intervals are most wrong where all flips go one way and hardly any is seen. So so few net
flips k = |gained − lost| must be rare in m problems of which an arm loses δ:

    P(K ≤ k) ≤ 5 %,    K ~ Binomial(m, δ)

Without a flip that takes 3 / δ problems, the rule of three (Hanley and Lippman-Hand, 1983). At one
of several looks the level is lower (``looks``).
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from evaluator.statistics.score_interval import Floats

LEVEL = 0.05  # of a match


def chance_of_so_few(
    net_flips: npt.ArrayLike, problems: npt.ArrayLike, margin: npt.ArrayLike
) -> Floats:
    """P(K ≤ k): so few net flips of m problems are seen so rarely where δ is lost; all broadcast.

    >>> (chance_of_so_few(0, [148, 149], 0.02) <= LEVEL).tolist()
    [False, True]
    """
    return np.asarray(binom.cdf(np.floor(net_flips), problems, margin))


def most_net_flips(problems: Floats, margin: Floats, level: float = LEVEL) -> Floats:
    """The most whole net flips that are few enough; −1 where none are."""
    return np.asarray(binom.ppf(level, problems, margin) - 1, dtype=np.float64)


def shown_margin(problems: int, level: float = LEVEL) -> float:
    """The smallest δ that m problems without any flip can show; 1 at a look that decides nothing.

    >>> round(shown_margin(149), 4)
    0.0199
    """
    return -math.expm1(math.log(level) / problems) if level > 0 else 1.0


def fewest_problems(margin: float, level: float = LEVEL) -> int:
    """The fewest problems that can show δ, by showing no flip.

    >>> [fewest_problems(margin) for margin in (0.05, 0.02, 0.01, 0.005)]
    [59, 149, 299, 598]
    """
    return math.ceil(math.log(level) / math.log1p(-margin))
