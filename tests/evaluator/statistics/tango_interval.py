"""Tango's interval, as the product makes it of its statistic."""

from functools import partial

from evaluator.statistics.score_interval import invert
from evaluator.statistics.tango import score_statistic


def tango_interval(b, c, n, level=0.95):
    """Of P(first alone) − P(second alone), with b and c of n pairs."""
    statistic = partial(score_statistic, b=b, c=c, n=n)
    return invert(statistic, (b - c) / n, (-1.0, 1.0), (1 - level) / 2)
