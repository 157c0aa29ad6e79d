"""The table of a bench, from made-up runs."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from evaluator.bench.table import CellResult, bench_frame, bench_table
from evaluator.report.summary import summarize
from evaluator.statistics.compare import Equivalence
from tests.evaluator.report import made_up


def result(suite, p_value):
    """A run in which one arm matches with this p-value, by itself and among the run's arms."""
    run = made_up.facts(kinds={"base": "base", "restored": "restored", "nf4": "merged"})
    summary = summarize(run, made_up.records(run))
    match = {"verdict": Equivalence.MATCH, "informative": True, "match_p": p_value}
    pairs = tuple(
        replace(pair, **match, joint_match_p=p_value) if pair.arm == "nf4" else pair
        for pair in summary.comparisons
    )
    cell = SimpleNamespace(parts=("base", "a", suite, "greedy"), base=SimpleNamespace(name="base"))
    return CellResult(cell, replace(summary, comparisons=pairs), ())


def verdicts(results):
    table = bench_table("bench", results)
    return [row[table.header.index("verdict")] for row in table.rows if "nf4" in row]


def test_a_match_is_one_of_the_bench_only_after_holm_over_all_its_runs():
    results = [result("one", 0.001), result("two", 0.02), result("three", 0.04)]
    frame = bench_frame(results).set_index(["suite", "arm"])
    for suite, p_value in {"one": 0.003, "two": 0.04, "three": 0.04}.items():
        assert frame.loc[(suite, "nf4"), "bench_match_p"] == pytest.approx(p_value)
    assert verdicts(results) == ["match"] * 3
    # of four, the second smallest counts three times
    assert verdicts([*results, result("four", 0.04)]) == ["match", *["match (alone)"] * 3]
