"""From verdict records to numbers."""

import dataclasses
from typing import get_args

import pytest

from evaluator.errors import RecordsError
from evaluator.judging.verdicts import Verdict
from evaluator.report.sentences import describe
from evaluator.report.summary import summarize
from tests.evaluator.report.made_up import REPEATED, facts, records


def test_rates_of_an_arm():
    run = facts()
    summary = summarize(run, records(run))
    restored = summary.arms[1]
    assert restored.pass_rate == 0.6
    assert restored.interval.low < 0.6 < restored.interval.high
    assert restored.compile_rate == pytest.approx(170 / 200)
    assert restored.no_code_rate == pytest.approx(10 / 200)
    assert restored.mean_score == pytest.approx((120 * 100 + 50 * 25) / 200)
    expected = dict.fromkeys(get_args(Verdict), 0) | {"AC": 120, "WA": 50, "CE": 30}
    assert restored.verdicts == expected


def test_problem_that_the_judge_failed_on_counts_for_no_arm():
    run = facts()

    def fail(one):
        broken = one.arm == "nf4" and one.problem in ("P0", "P199")
        return dataclasses.replace(one, verdict="UKE", score=0.0) if broken else one

    summary = summarize(run, records(run, fail))
    assert summary.unjudged == ("P0", "P199")
    said = "failed on 2 problems (UKE), which are left out of every number: P0; P199"
    assert said in describe(summary)[0]
    assert {arm.passes.shape for arm in summary.arms} == {(198, 1)}
    assert summary.arms[1].pass_rate == pytest.approx(119 / 198)
    assert summary.arms[2].verdicts["UKE"] == 2


def test_missing_records_or_only_failures_of_the_judge_are_an_error():
    run = facts()
    made = records(run)
    del made["nf4", "P7", 0], made["base", "P9", 0]
    with pytest.raises(RecordsError, match="2 of 800 verdicts are missing"):
        summarize(run, made)
    with pytest.raises(RecordsError, match="every problem"):
        summarize(run, records(run, lambda one: dataclasses.replace(one, verdict="UKE")))


def test_another_artifact_or_formula_is_no_repeat():
    run = facts(kinds=REPEATED)
    other = dataclasses.replace(run.arms[1], artifact_digest="5" * 64)
    changed = dataclasses.replace(run, arms=(run.arms[0], other, *run.arms[2:]))
    assert summarize(changed, records(changed)).repeats == ()
    arms = [
        {"name": "restored", "seed": None, "formula": "full"},
        {"name": "again", "seed": 7, "formula": "full"},
    ]
    seeded = dataclasses.replace(run, config={**run.config, "arms": arms})
    assert summarize(seeded, records(seeded)).repeats == ("again",)
    arms[1]["formula"] = "diagonal"
    assert summarize(seeded, records(seeded)).repeats == ()
