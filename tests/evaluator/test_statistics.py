"""McNemar, sign flips, Wilson, pass@k and clustering."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from evaluator.mcnemar import exact_mcnemar, exact_sign_flip
from evaluator.proportions import design_effect, pass_at_k, pass_rate_interval, wilson_interval


def test_mcnemar_published_value():
    # Fagerland et al. 2014, airway hyper-responsiveness: exact conditional test, P = 0.0703.
    assert exact_mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_doubled_binomial_tail(gained, lost):
    tail = binom.cdf(min(gained, lost), gained + lost, 0.5)
    assert exact_mcnemar(gained, lost) == pytest.approx(min(1.0, 2 * tail))
    assert exact_mcnemar(gained, lost) == exact_mcnemar(lost, gained)


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=40))
def test_sign_flip_with_one_sample_is_mcnemar(differences):
    gained, lost = differences.count(1), differences.count(-1)
    assert exact_sign_flip(differences) == pytest.approx(exact_mcnemar(gained, lost))


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flip_against_all_patterns(differences):
    observed = abs(sum(differences))
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    assert exact_sign_flip(differences) == pytest.approx(
        sum(s >= observed for s in sums) / len(sums)
    )


def test_wilson_limits_are_roots_of_the_score_test():
    z = norm.ppf(0.975)
    for successes, trials in ((0, 10), (3, 10), (10, 10), (47, 96)):
        interval = wilson_interval(successes, trials)
        for limit in (interval.low, interval.high):
            gap = successes / trials - limit
            assert gap**2 == pytest.approx(z**2 * limit * (1 - limit) / trials, abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_mean_over_all_draws(samples, data):
    row = data.draw(st.lists(st.booleans(), min_size=samples, max_size=samples))
    k = data.draw(st.integers(1, samples))
    draws = list(itertools.combinations(row, k))
    expected = sum(any(draw) for draw in draws) / len(draws)
    assert pass_at_k(np.array([row]), k) == pytest.approx(expected)


def test_pass_at_k_refuses_more_draws_than_samples():
    with pytest.raises(ValueError, match="1 ≤ k ≤ 3"):
        pass_at_k(np.zeros((2, 3), dtype=bool), 4)


def test_design_effect_of_copies_and_of_independent_samples():
    rng = np.random.default_rng(1)
    independent = (rng.random((2000, 4)) < 0.5).astype(float)
    copies = np.repeat(independent[:, :1], 4, axis=1)
    assert design_effect(copies) == pytest.approx(4, abs=0.01)
    assert design_effect(independent) == pytest.approx(1, abs=0.1)
    assert design_effect(independent[:, :1]) == 1


def test_design_effect_takes_the_worst_case_where_it_cannot_be_estimated():
    values = np.zeros((100, 4))
    assert design_effect(values) == 4
    values[:9, 0] = 1
    assert design_effect(values) == 4
    values[:30, 0] = 1
    assert design_effect(values) == 1


@pytest.mark.parametrize("samples", [1, 4])
def test_pass_rate_interval_covers_with_clusters(samples):
    """Problems differ in how hard they are, so the samples of one problem go together."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(600):
        chance = rng.beta(0.5, 0.7, size=(120, 1))
        interval = pass_rate_interval(rng.random((120, samples)) < chance)
        held += interval.low <= 0.5 / 1.2 <= interval.high
    assert 0.92 <= held / 600 <= 0.98
