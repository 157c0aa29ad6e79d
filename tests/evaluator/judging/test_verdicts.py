"""How verdicts and scores of tests combine."""

import pytest

from evaluator.judging.verdicts import program_verdict
from evaluator.store.records import TestRecord
from evaluator.suites.problem import Problem, TestCase


def combine(*tests):
    """Each test is (verdict, points got, points, subtask)."""
    cases = tuple(TestCase(str(n), "", "", t[2], t[3]) for n, t in enumerate(tests))
    verdicts = [TestRecord(str(n), t[0], t[1], 1, 1) for n, t in enumerate(tests)]
    return program_verdict(Problem("p", "", cases), verdicts)


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["AC", "AC"], "AC"),
        (["AC", "WA", "TLE"], "WA"),
        (["RE", "WA"], "RE"),
        (["PC", "AC"], "PC"),
        (["UKE", "AC"], "UKE"),
        (["UKE", "WA"], "WA"),
    ],
)
def test_verdict(verdicts, whole):
    result = combine(*[(v, 1.0 * (v == "AC"), 1.0, None) for v in verdicts])
    assert result.verdict == whole
    assert result.passed is (whole == "AC")


def test_score_is_the_share_of_the_points():
    assert combine(("AC", 10, 10, None), ("WA", 0, 30, None)).score == 25
    assert combine(("AC", 1, 1, None), ("PC", 0.5, 1, None)).score == 75


def test_a_subtask_gives_its_minimum():
    result = combine(
        ("AC", 30, 30, 1),
        ("WA", 0, 30, 1),
        ("AC", 50, 50, 2),
        ("PC", 25, 50, 2),
        ("AC", 20, 20, None),
    )
    assert result.subtasks == {1: 0, 2: 25}
    assert result.score == 45


def test_tests_of_a_subtask_are_compared_by_the_share_of_their_points():
    result = combine(("AC", 10, 10, 1), ("PC", 45, 90, 1))
    assert (result.verdict, result.subtasks, result.score) == ("PC", {1: 5}, 50)
    assert combine(("AC", 90, 90, 1), ("AC", 10, 10, 1)).score == 100
    assert combine(("AC", 0, 0, 1), ("AC", 10, 10, 1), ("AC", 5, 5, 2)).score == 100


def test_a_test_on_which_the_judge_failed_gives_and_costs_nothing():
    assert combine(("UKE", 0, 50, None), ("AC", 10, 10, None), ("WA", 0, 30, None)).score == 25
    result = combine(("UKE", 0, 30, 1), ("AC", 30, 30, 1), ("WA", 0, 30, None))
    assert result.subtasks == {1: 30} and result.score == 50


def test_no_points_at_all():
    assert combine(("AC", 0, 0, None)).score == 100
    assert combine(("WA", 0, 0, None)).score == 0
