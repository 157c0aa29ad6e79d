from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from evaluator.statistics.compare import Equivalence, compare_arms, compare_pair, verdict_of
from evaluator.statistics.score_interval import Interval


def arm(passed, total):
    """bool [total, 1] of which the first ``passed`` pass."""
    return (np.arange(total) < passed)[:, None]


def flipped(passes, gained, lost):
    result = passes.copy()
    result[np.flatnonzero(~passes[:, 0])[:gained]] = True
    result[np.flatnonzero(passes[:, 0])[:lost]] = False
    return result


REFERENCE = arm(180, 300)


@pytest.mark.parametrize(
    ("match_p", "interval95", "expected"),
    [
        (0.05, (-0.02, 0.025), "match"),
        (0.01, (0.001, 0.025), "match"),  # a real difference, surely below the margin
        (0.0501, (-0.001, 0.05), "inconclusive"),  # the 95 % interval holds 0
        (0.7, (0.001, 0.05), "differ"),
        (1.0, (-0.6, -0.1), "differ"),
    ],
)
def test_rule(match_p, interval95, expected):
    assert verdict_of(match_p, Interval(*interval95, 0.95)) == expected


@given(st.integers(0, 12), st.integers(0, 12), st.integers(30, 400), st.sampled_from((0.02, 0.05)))
@settings(max_examples=80, deadline=None)
def test_a_match_is_an_interval_within_the_margin_and_few_net_flips(gained, lost, m, margin):
    reference = arm(m // 2, m)
    pair = compare_pair("a", flipped(reference, gained, lost), "b", reference, margin)
    inside = -margin < pair.interval90.low and pair.interval90.high < margin
    few = sum(
        comb(m, k) * margin**k * (1 - margin) ** (m - k) for k in range(abs(gained - lost) + 1)
    )
    assert (pair.verdict == "match") == (inside and few <= 0.05)


def test_flips_of_samples_count_in_problems():
    """4 of 4 samples lost in one of 152 problems is one net flip; in 148 it is too many for δ."""
    for problems, expected in ((150, Equivalence.INCONCLUSIVE), (160, Equivalence.MATCH)):
        reference = np.ones((problems, 4), dtype=bool)
        lost = reference.copy()
        lost[0] = False
        assert compare_pair("a", lost, "b", reference, 0.03).verdict is expected


@pytest.mark.parametrize(
    ("gained", "lost", "problems", "level", "low", "high", "digits"),
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
def test_intervals_of_one_sample_are_tangos(gained, lost, problems, level, low, high, digits):
    """Published values."""
    reference = arm(problems // 2, problems)
    pair = compare_pair("a", flipped(reference, gained, lost), "b", reference, 0.03)
    interval = pair.interval95 if level == 0.95 else pair.interval90
    assert (round(interval.low, digits), round(interval.high, digits)) == (low, high)


def test_counts_signs_and_tests_of_one_pair():
    pair = compare_pair("nf4", flipped(REFERENCE, 4, 11), "restored", REFERENCE, 0.03)
    assert (pair.gained, pair.lost, pair.problems, pair.samples) == (4, 11, 300, 1)
    assert pair.difference == pytest.approx(-7 / 300)
    assert pair.p_value == pytest.approx(binomtest(4, 15).pvalue)
    assert (1 - pair.shown_margin) ** 300 == pytest.approx(0.05)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**40 - 1), st.integers(0, 2**40 - 1), st.sampled_from([1, 2, 4]))
def test_comparison_is_antisymmetric(first, second, samples):
    a, b = (
        np.array([(bits >> i) & 1 for i in range(40)], dtype=bool).reshape(-1, samples)
        for bits in (first, second)
    )
    one, other = compare_pair("a", a, "b", b, 0.1), compare_pair("b", b, "a", a, 0.1)
    assert one.difference == -other.difference
    assert (one.gained, one.lost) == (other.lost, other.gained)
    assert one.interval95.low == pytest.approx(-other.interval95.high, abs=1e-9)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.verdict == other.verdict
    assert one.interval95.low <= one.difference <= one.interval95.high


@pytest.mark.parametrize(
    ("flips", "informative"),
    [((5, 60), True), ((0, 0), False), ((2, 3), False), ((4, 10), False)],
)
def test_a_match_means_something_only_where_the_control_differs(flips, informative):
    control = flipped(REFERENCE, *flips)
    passes = {"base": control, "restored": REFERENCE, "lost": control}
    passes["nf4"] = flipped(REFERENCE, 1, 1)
    base, lost, nf4 = compare_arms(passes, "restored", "base", 0.03)
    assert (nf4.verdict, nf4.informative) == (Equivalence.MATCH, informative)
    if informative:
        assert base.verdict is lost.verdict is Equivalence.DIFFER
        assert base.informative is lost.informative is None


def test_clusters_are_the_unit():
    """Copies of a sample change nothing; the same flips in more problems are worth more."""
    lost = flipped(REFERENCE, 2, 10)
    once = compare_pair("a", lost, "b", REFERENCE, 0.05)
    copied = compare_pair("a", np.repeat(lost, 4, 1), "b", np.repeat(REFERENCE, 4, 1), 0.05)
    assert copied.lost == 4 * once.lost
    assert copied.interval90.low == pytest.approx(once.interval90.low, abs=1e-9)
    assert copied.interval90.high == pytest.approx(once.interval90.high, abs=1e-9)
    assert copied.provable_margin == once.provable_margin
    spread = np.repeat(REFERENCE, 4, 1)
    spread[np.flatnonzero(REFERENCE[:, 0])[:40], 0] = False
    scattered = compare_pair("a", spread, "b", np.repeat(REFERENCE, 4, 1), 0.05)
    packed = compare_pair(
        "a", np.repeat(flipped(REFERENCE, 0, 10), 4, 1), "b", np.repeat(REFERENCE, 4, 1), 0.05
    )
    assert scattered.difference == packed.difference
    assert scattered.interval90.low > packed.interval90.low + 0.005
