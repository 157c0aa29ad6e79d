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


@pytest.mark.parametrize(
    ("tests", "score", "subtasks"),
    [
        ([("AC", 10, 10, None), ("WA", 0, 30, None)], 25, {}),
        ([("AC", 1, 1, None), ("PC", 0.5, 1, None)], 75, {}),
        # a subtask gives its minimum
        (
            [("AC", 30, 30, 1), ("WA", 0, 30, 1), ("AC", 50, 50, 2), ("PC", 25, 50, 2)]
            + [("AC", 20, 20, None)],
            45,
            {1: 0, 2: 25},
        ),
        # tests of a subtask are compared by the share of their points
        ([("AC", 10, 10, 1), ("PC", 45, 90, 1)], 50, {1: 5}),
        ([("AC", 90, 90, 1), ("AC", 10, 10, 1)], 100, {1: 10}),
        ([("AC", 0, 0, 1), ("AC", 10, 10, 1), ("AC", 5, 5, 2)], 100, {1: 0, 2: 5}),
        # a test on which the judge failed gives and costs nothing
        ([("UKE", 0, 50, None), ("AC", 10, 10, None), ("WA", 0, 30, None)], 25, {}),
        ([("UKE", 0, 30, 1), ("AC", 30, 30, 1), ("WA", 0, 30, None)], 50, {1: 30}),
        # no points at all
        ([("AC", 0, 0, None)], 100, {}),
        ([("WA", 0, 0, None)], 0, {}),
    ],
)
def test_score_is_the_share_of_the_points(tests, score, subtasks):
    found = combine(*tests)
    assert (found.score, found.subtasks) == (score, subtasks)
