"""McNemar, sign flips, pass@k and clustering."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from evaluator.statistics.mcnemar import exact_sign_flip
from evaluator.statistics.proportions import pass_at_k, problem_pass_at_k
from evaluator.statistics.score_interval import mean_statistic


def test_sign_flip_of_one_sample_is_mcnemar():
    """Fagerland et al. 2014, airway hyper-responsiveness: exact conditional test, P = 0.0703."""
    assert exact_sign_flip(np.array([1] + [0] * 13 + [-1] * 7)) == pytest.approx(0.0703, abs=5e-5)


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flip_against_all_patterns(differences):
    observed = abs(sum(differences))
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    assert exact_sign_flip(np.array(differences, dtype=int)) == pytest.approx(
        sum(s >= observed for s in sums) / len(sums)
    )


def test_sign_flip_of_many_is_close_to_that_of_fewer():
    """Exact up to 20 000; beyond, normal: two sides of the limit agree where both are possible."""
    rng = np.random.default_rng(2)
    for total in (19_000, 21_000):
        sizes = rng.integers(1, 9, total // 4)
        shift = 2.5 / np.sqrt((sizes**2).sum())
        signed = sizes * np.where(rng.random(sizes.size) < 0.5 + shift, 1, -1)
        z = abs(signed.sum()) / np.sqrt((sizes**2).sum())
        assert exact_sign_flip(signed) == pytest.approx(2 * norm.sf(z), rel=0.02)


@settings(deadline=None)
@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_mean_over_all_draws(samples, data):
    row = data.draw(st.lists(st.booleans(), min_size=samples, max_size=samples))
    k = data.draw(st.integers(1, samples))
    draws = list(itertools.combinations(row, k))
    expected = sum(any(draw) for draw in draws) / len(draws)
    assert pass_at_k(np.array([row]), k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 4])
def test_pass_at_k_interval_covers_with_clusters(k):
    """Problems differ in how hard they are, so the samples of one problem go together."""
    rng = np.random.default_rng(3)
    samples, runs, a, b = 4, 4000, 0.5, 0.7
    truth = 1 - math.prod((b + i) / (a + b + i) for i in range(k))
    passed = rng.binomial(samples, rng.beta(a, b, size=(runs, 120)))
    counts = np.stack([(passed == c).sum(axis=1) for c in range(samples + 1)], axis=1)
    estimates = problem_pass_at_k(np.arange(samples) < np.arange(samples + 1)[:, None], k)
    statistic = mean_statistic(np.array([truth]), estimates, counts.astype(float), (0.0, 1.0))
    assert 0.94 <= np.mean(np.abs(statistic) <= norm.ppf(0.975)) <= 0.96
