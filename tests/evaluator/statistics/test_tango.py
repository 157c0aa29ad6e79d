"""Tango's statistic, by which chances of a verdict are enumerated."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from evaluator.statistics.tango import score_statistic

Z95 = float(norm.ppf(0.975))


def test_rejects_0_exactly_where_the_asymptotic_mcnemar_test_does():
    for b in range(0, 30, 3):
        for c in range(0, 30, 4):
            rejects = b != c and abs(b - c) / math.sqrt(b + c) > Z95
            assert (abs(score_statistic(0.0, b, c, 80)) > Z95) == rejects, (b, c)


@pytest.mark.parametrize(("difference", "expected"), [(0.0, 0.0), (1.0, -np.inf), (-1.0, np.inf)])
def test_statistic_where_nothing_flipped_has_no_variance_at_the_ends(difference, expected):
    assert score_statistic(difference, 0, 0, 10) == expected
