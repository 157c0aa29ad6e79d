"""Families of problems are the unit of every interval and test."""

import numpy as np
import pytest
from scipy.stats import norm

from evaluator.statistics.compare import Equivalence, compare_arms, compare_pair
from evaluator.statistics.families import Families
from evaluator.statistics.few_flips import chance_of_so_few
from evaluator.statistics.proportions import pass_at_k_interval
from evaluator.statistics.score_interval import score_of


def lost_in(families, which):
    """A reference that passes everything, and an arm that fails these families whole."""
    reference = np.ones((len(families.number), 1), dtype=bool)
    arm = reference.copy()
    arm[np.isin(families.number, which)] = False
    return arm, reference


def test_problems_without_a_family_stand_alone():
    families = Families.named(["a", None, "a", None, "b"])
    assert families.number.tolist() == [0, 1, 0, 2, 3]
    assert families.sizes.tolist() == [2, 1, 1, 1]
    assert Families.named([None, None]).number.tolist() == Families.alone(2).number.tolist()


def test_a_family_of_copies_counts_as_one_problem():
    families = Families.named([f"f{k // 3}" for k in range(600)])
    arm, reference = lost_in(families, range(4))
    pair = compare_pair("a", arm, "b", reference, 0.05, families)
    assert (pair.problems, pair.families, pair.lost) == (600, 200, 12)
    assert pair.p_value == 0.125  # McNemar's, of 4 lost
    one = compare_pair("a", arm[::3], "b", reference[::3], 0.05)
    for found, known in ((pair.interval90, one.interval90), (pair.interval95, one.interval95)):
        assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-9)
    assert pair.match_p == pytest.approx(one.match_p)
    assert pair.shown_margin == one.shown_margin
    assert pair.provable_margin == pytest.approx(one.provable_margin)


def test_pass_rate_interval_is_as_wide_as_families_are_few():
    rng = np.random.default_rng(0)
    one = rng.random((60, 1)) < 0.4
    copies, families = np.repeat(one, 5, axis=0), Families(np.repeat(np.arange(60), 5))
    alone, grouped = pass_at_k_interval(one, 1), pass_at_k_interval(copies, 1, families=families)
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high), abs=1e-9)
    narrow = pass_at_k_interval(copies, 1)
    assert narrow.high - narrow.low < 0.5 * (grouped.high - grouped.low)


def test_matches_hold_jointly_only_after_holm():
    """One p-value of 3 % is a match; beside three others like it, it is none that holds jointly."""
    reference = np.ones((120, 1), dtype=bool)
    arms = {"restored": reference, **{name: reference for name in "abcd"}}
    pairs = compare_arms(arms, "restored", None, 0.03)
    assert 0.97**120 <= pairs[0].match_p <= 0.03  # by the exact test, and by the interval
    assert {p.verdict for p in pairs} == {Equivalence.MATCH}
    assert pairs[0].joint_match_p == pytest.approx(4 * pairs[0].match_p)
    assert not any(p.holds_jointly for p in pairs)
    alone = compare_arms(arms, "restored", "a", 0.03, repeats=("b", "c"))
    assert [p.joint_match_p is None for p in alone] == [True, True, True, False]
    assert alone[3].holds_jointly


@pytest.mark.parametrize("sizes", [(3,), tuple(range(1, 11)), (1, 1, 1, 1, 10)])
def test_false_matches_are_rare_where_whole_families_are_lost(sizes):
    """Families are lost with the chance δ, as a whole or not at all: the worst case."""
    rng, margin, runs = np.random.default_rng(7), 0.05, 600
    families = Families(np.repeat(np.arange(200), np.resize(sizes, 200)))
    alone = Families.alone(len(families.number))
    matches = {families: 0, alone: 0}
    for _ in range(runs):
        lost = np.isin(families.number, np.flatnonzero(rng.random(200) < margin)).astype(float)
        for unit in matches:
            statistic, _ = score_of(unit.means(-lost), (-1.0, 1.0), unit.sizes)
            low, high = statistic(np.array([-margin, margin]))
            net = lost.mean() * unit.effective
            matches[unit] += norm.sf(max(0, min(low, -high))) <= 0.05 and bool(
                chance_of_so_few(net, unit.effective, margin) <= 0.05
            )
    assert matches[families] <= 0.077 * runs  # 5 % and three standard errors
    assert matches[alone] >= 0.12 * runs
