"""The interval of a bounded mean against Wilson's, Tango's, brute force, and its own promises."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from evaluator.statistics.score_interval import mean_interval, mean_statistic
from evaluator.statistics.tango import score_statistic

values_of = st.lists(st.integers(-4, 4), min_size=2, max_size=60).map(lambda x: np.array(x) / 4)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (47, 96)])
def test_zeros_and_ones_give_wilsons_interval(successes, trials):
    interval = mean_interval((np.arange(trials) < successes).astype(float), (0.0, 1.0))
    z, rate = float(norm.ppf(0.975)), successes / trials
    center = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    spread = np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    half = z / (1 + z**2 / trials) * spread
    assert interval.low == pytest.approx(max(0, center - half), abs=1e-9)
    assert interval.high == pytest.approx(min(1, center + half), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 60), st.floats(-0.95, 0.95))
def test_one_sample_gives_tangos_statistic(b, c, rest, difference):
    n = b + c + rest
    assume(n > 0)
    distinct, counts = np.array([-1.0, 0.0, 1.0]), np.array([c, rest, b], dtype=float)
    found = mean_statistic(np.array([difference]), distinct, counts, (-1.0, 1.0))[0]
    assert found == pytest.approx(score_statistic(difference, b, c, n), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("mean", [-0.4, -0.1, 0.02, 0.08, 0.3])
def test_weights_are_the_most_likely_ones(mean):
    """Against a numeric maximisation over all weights on the values and both ends of the range."""
    values = np.array([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0])
    counts = np.array([0.0, 3.0, 40.0, 5.0, 2.0, 0.0])

    def minus_log_likelihood(p):
        return -(counts[1:-1] @ np.log(np.maximum(p[1:-1], 1e-12)))

    constraints = (
        {"type": "eq", "fun": lambda p: p.sum() - 1},
        {"type": "eq", "fun": lambda p: p @ values - mean},
    )
    found = minimize(
        minus_log_likelihood,
        np.full(6, 1 / 6),
        bounds=[(0, 1)] * 6,
        constraints=constraints,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-13},
    )
    variance = found.x @ (values - mean) ** 2
    expected = np.sqrt(50) * (counts @ values / 50 - mean) / np.sqrt(variance)
    statistic = mean_statistic(np.array([mean]), values, counts, (-1.0, 1.0))[0]
    assert statistic == pytest.approx(expected, rel=2e-4)


@settings(max_examples=20, deadline=None)
@given(values_of, st.floats(0.6, 0.98))
def test_interval_holds_the_mean_mirrors_and_nests(values, level):
    interval = mean_interval(values, (-1.0, 1.0), level)
    mirrored = mean_interval(-values, (-1.0, 1.0), level)
    assert -1 <= interval.low <= values.mean() + 1e-9
    assert values.mean() - 1e-9 <= interval.high <= 1
    assert interval.low == pytest.approx(-mirrored.high, abs=1e-8)
    wider = mean_interval(values, (-1.0, 1.0), level + 0.01)
    assert wider.low <= interval.low + 1e-9
    assert wider.high >= interval.high - 1e-9
