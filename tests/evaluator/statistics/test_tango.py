"""Tango's interval against published values, brute force, and its own promises."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from evaluator.statistics.tango import score_statistic
from tests.evaluator.statistics.tango_interval import tango_interval

Z95 = float(norm.ppf(0.975))


@pytest.mark.parametrize(
    ("b", "c", "n", "level", "low", "high", "digits"),
    [
        # Fagerland, Lydersen, Laake: "Recommended tests and confidence intervals for paired
        # binomial proportions" (2014): airway hyper-responsiveness, Bentur et al. 2009.
        (1, 7, 21, 0.95, -0.517, -0.026, 3),
        # The same authors' book (2017), complete response, Cavo et al. 2012.
        (6, 16, 161, 0.95, -0.1240, -0.0054, 4),
        # Tango 1998, the paper's two examples: a crossover trial of airway relief, and the
        # disinfection of contact lenses (equivalence, so 90 %).
        (9, 3, 32, 0.95, -0.027, 0.390, 3),
        (0, 1, 44, 0.90, -0.096, 0.037, 3),
        # Agresti and Min: "Simple improved confidence intervals for comparing matched
        # proportions" (2005).
        (16, 8, 86, 0.95, -0.020, 0.207, 3),
        # R package PropCIs, scoreci.mp(20, 60, 1000) and scoreci.mp(25, 28, 618, 0.90).
        (60, 20, 1000, 0.95, 0.0231, 0.0584, 4),
        (28, 25, 618, 0.90, -0.0148, 0.0247, 4),
    ],
)
def test_published_values(b, c, n, level, low, high, digits):
    interval = tango_interval(b, c, n, level)
    assert round(interval.low, digits) == low
    assert round(interval.high, digits) == high


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 400), st.floats(0.5, 0.999))
def test_interval_holds_the_estimate_and_mirrors(b, c, rest, level):
    n = b + c + rest
    assume(n > 0)
    interval, mirrored = tango_interval(b, c, n, level), tango_interval(c, b, n, level)
    assert -1 <= interval.low <= (b - c) / n <= interval.high <= 1
    assert interval.low == pytest.approx(-mirrored.high, abs=1e-9)
    assert interval.high == pytest.approx(-mirrored.low, abs=1e-9)
    wider = tango_interval(b, c, n, level + (1 - level) / 2)
    assert wider.low <= interval.low + 1e-9
    assert wider.high >= interval.high - 1e-9


def test_excludes_zero_exactly_where_the_asymptotic_mcnemar_test_rejects():
    for b in range(0, 30, 3):
        for c in range(0, 30, 4):
            interval = tango_interval(b, c, 80)
            rejects = b != c and abs(b - c) / math.sqrt(b + c) > Z95
            assert (interval.low > 0 or interval.high < 0) == rejects, (b, c)


@pytest.mark.parametrize(("difference", "expected"), [(0.0, 0.0), (1.0, -np.inf), (-1.0, np.inf)])
def test_statistic_where_nothing_flipped_has_no_variance_at_the_ends(difference, expected):
    assert score_statistic(difference, 0, 0, 10) == expected
