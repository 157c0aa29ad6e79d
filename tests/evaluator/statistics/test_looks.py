from functools import cache, partial

import numpy as np
import pytest
from scipy.stats import norm

from evaluator.config.run_config import MOST_LOOKS
from evaluator.statistics.compare import compare_pair, match_p
from evaluator.statistics.families import Families
from evaluator.statistics.looks import Look
from evaluator.statistics.tango import score_statistic

UNEQUAL = (0.1, 0.15, 0.6, 1.0)


@pytest.mark.parametrize(
    ("looks", "two_sided_5", "two_sided_10"),
    [(2, 1.977, 1.678), (3, 2.004, 1.710), (4, 2.024, 1.733), (5, 2.040, 1.751)],
)
def test_boundaries_are_those_of_obrien_and_fleming(looks, two_sided_5, two_sided_10):
    """As in table 2.3 of Jennison and Turnbull: Group Sequential Methods, 2000."""
    for number in range(1, looks + 1):
        look = Look.of_equal(looks, number)
        for alpha, last in ((0.025, two_sided_5), (0.05, two_sided_10)):
            boundary = norm.isf(look.level(alpha)) * (number / looks) ** 0.5
            assert boundary == pytest.approx(last, abs=1e-3)


@pytest.mark.parametrize("times", [(0.25, 0.5, 0.75, 1.0), UNEQUAL])
def test_a_p_value_over_all_looks_is_how_often_a_null_comes_so_far(times):
    """Against random walks drawn here."""
    rng, walks = np.random.default_rng(3), 200_000
    steps = np.diff((0.0, *times)) ** 0.5 * rng.standard_normal((walks, len(times)))
    highest = np.cumsum(steps, axis=1).max(axis=1)
    for number, p in ((1, 0.01), (2, 0.02), (3, 0.2), (4, 0.6)):
        reached = norm.isf(p) * times[number - 1] ** 0.5
        expected = np.mean(highest >= reached)
        assert Look(times, number).over_all(p) == pytest.approx(expected, abs=4e-3)


def test_families_of_very_unequal_size_have_levels_too():
    """One family of a thousand variants holds nearly all: the steps before it are tiny."""
    for before in ([1e-6 * k for k in range(1, 20)], [0.9999 + 5e-6 * k for k in range(19)]):
        first, last = (Look((*before, 1.0), number) for number in (1, 20))
        assert 0 <= first.level(0.05) <= 0.05 and 0.03 - 1e-6 <= first.over_all(0.03) <= 1
        assert 0.04 < last.level(0.05) <= 0.05 + 1e-6 and 0.03 - 1e-6 <= last.over_all(0.03) < 0.035
        assert last.over_all(last.level(0.05)) == pytest.approx(0.05, rel=1e-4)


def test_p_values_undo_levels_and_keep_their_order_and_their_ends():
    for look in (Look(UNEQUAL, number) for number in (1, 2, 3, 4)):
        assert look.over_all(look.level(0.03)) == pytest.approx(0.03, rel=1e-6)
    look = Look.of_equal(4, 3)
    found = [look.over_all(p) for p in (0.0, 1e-300, 1e-9, 0.01, 0.5, 0.9, 1.0)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0.0, 1.0)


def test_false_matches_over_ten_looks_are_as_rare_as_over_one():
    """Arms lose δ: looked at ten times, they match by chance far more often than planned."""
    rng, runs, m, margin = np.random.default_rng(5), 2000, 600, 0.05
    looks = [Look.of_equal(10, k + 1) for k in range(10)]
    levels = np.array([look.level(0.05) for look in looks])
    sizes = np.array([look.time * m for look in looks]).astype(int)

    @cache
    def p_value(lost, size):
        return match_p(partial(score_statistic, b=0, c=lost, n=size), lost, size, margin)

    losses = np.cumsum(rng.random((runs, m)) < margin, axis=1)[:, sizes - 1].tolist()
    found = np.array([list(map(p_value, lost, sizes.tolist())) for lost in losses])
    assert np.mean((found <= 0.05).any(axis=1)) > 0.1
    assert np.mean((found <= levels).any(axis=1)) <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_a_comparison_is_judged_over_all_looks():
    """No flip: the score test at δ has z² = m δ/(1 − δ), and the second of four asks for 2.45."""
    for problems, verdict in ((120, "match"), (110, "inconclusive")):
        same = np.ones((problems, 1), dtype=bool)
        look = Look.of_equal(4, 2)
        alone = norm.sf((problems * 0.05 / 0.95) ** 0.5)
        pair = compare_pair("a", same, "b", same, 0.05, look=look)
        assert pair.verdict == verdict
        assert pair.match_p == pytest.approx(look.over_all(alone), rel=1e-6)
        assert (1 - pair.shown_margin) ** problems == pytest.approx(look.level(0.05))
        assert pair.interval90.level == pytest.approx(1 - 2 * look.level(0.05))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("looks", [2, 3, 7, MOST_LOOKS])
def test_first_looks_ask_for_more_than_so_few_problems_show(looks):
    """The level of one of many looks is nearer to 0 than 1 - 2 · level is to 1."""
    passes = np.ones((3, 1), dtype=bool)
    pair = compare_pair("a", ~passes, "b", passes, 0.05, look=Look.of_equal(looks, 1))
    assert pair.verdict == "inconclusive"
    assert pair.interval95.low == pair.interval90.low == pair.difference == -1
    assert 0 < pair.interval90.high < pair.interval95.high <= 1
    assert 0.7 < pair.shown_margin <= 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("largest", [40, 400, 4000])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_look_before_a_family_that_holds_nearly_all_decides_nothing(largest, samples):
    """With a family of 400 its level is 0 as a float: 5 of 160 005 parts of the variance."""
    first = Look((5 / (5 + largest**2), 1.0), 1)
    assert (first.level(0.05) == 0) == (largest > 40)
    passes = np.ones((5, samples), dtype=bool)
    for arm in (passes, ~passes):
        # a δ and a difference that are seen in five families, if anything is
        pair = compare_pair("a", arm, "b", passes, 0.999, Families.alone(5), first)
        assert pair.verdict == "inconclusive"
        assert pair.interval90.low < -0.98 and pair.interval90.high > 0.98
        assert pair.shown_margin == pytest.approx(1)
        assert (pair.provable_margin, pair.detectable_difference) == (None, None)


def test_a_p_value_of_0_is_no_evidence_at_a_look_whose_level_is_0():
    """It has been rounded down, from where such a look would ask for less still."""
    assert Look((1e-4, 1.0), 1).over_all(0.0) > 0.05
    assert Look((0.1, 1.0), 1).over_all(0.0) < 1e-9
