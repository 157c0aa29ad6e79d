"""Runs that are looked at while they grow."""

import dataclasses
import shutil

import pytest

from evaluator.config.run_config import load_config
from evaluator.generation import stage as generation_stage
from evaluator.generation.prepare import prepare
from evaluator.judging import stage as judging_stage
from evaluator.report.results import read_summary
from evaluator.report.sentences import describe
from evaluator.report.summary import summarize
from evaluator.store.looks import planned_looks
from evaluator.store.records import GenerationRecord, read
from evaluator.store.run_directory import RunDirectory
from tests.evaluator.report import made_up
from tests.evaluator.whole_runs import RECORDS, cut, identities, make, write_quick_config

WIDE = {"margin": 0.9, "looks": 3}  # so wide that few families show a match
NARROW = {"margin": 0.05, "looks": 3}  # so narrow that none do


def problems_of(out):
    return {problem for _, problem, _ in read(out / RECORDS[0], GenerationRecord.from_row)}


def look_of(path, results):
    """The planned look at which a run ended."""
    return planned_looks(prepare(load_config(path)).facts)[results.summary.look.number - 1]


def test_a_run_stops_at_the_look_that_decides_every_arm(quick_config, tmp_path):
    path = quick_config(tmp_path / "out", equivalence=WIDE)
    out, results = make(path)
    reached = results.summary.look
    assert reached.number < 3 and results.summary.decided
    assert problems_of(out) == look_of(path, results).problems
    assert f"Look {reached.number} of 3" in results.sentences[0]
    assert "so the run stopped" in results.sentences[0]
    assert any("and 3 looks were fixed before the first" in one for one in results.sentences)
    before = identities(out)
    make(path)
    assert identities(out) == before
    assert read_summary(RunDirectory(out)).look == reached


@pytest.fixture(scope="module")
def narrow(quick, tmp_path_factory):
    """The directory of a run that no look decides; not to be changed."""
    folder = tmp_path_factory.mktemp("narrow")
    out, results = make(write_quick_config(folder, out=folder / "out", equivalence=NARROW, **quick))
    assert results.summary.look.number == 3
    return out


def test_an_undecided_run_goes_on_to_the_last_look(narrow, quick_config, tmp_path):
    """To the same texts and verdicts as a run of one look: batches differ, float32 does not."""
    whole, _ = make(quick_config(tmp_path / "whole", equivalence={"margin": 0.05}))
    assert identities(narrow) == identities(whole)


@pytest.mark.parametrize("shares", [(0.2, 0.0), (0.7, 0.3), (1.0, 0.6)])
def test_a_run_of_several_looks_goes_on_after_a_kill(narrow, quick_config, tmp_path, shares):
    out = cut(shutil.copytree(narrow, tmp_path / "out"), shares)
    make(quick_config(out, equivalence=NARROW))
    assert identities(out) == identities(narrow)


def test_a_lost_verdict_of_an_early_look_costs_only_itself(
    narrow, quick_config, tmp_path, monkeypatch
):
    out, made = shutil.copytree(narrow, tmp_path / "out"), []
    path, (_, verdicts) = quick_config(out, equivalence=NARROW), identities(narrow)
    first = planned_looks(prepare(load_config(path)).facts)[0].problems
    lost = next((one.problem, one.code_sha256) for one in verdicts if one.problem in first)
    lines = zip((out / RECORDS[1]).read_bytes().splitlines(True), verdicts, strict=True)
    kept = (line for line, one in lines if (one.problem, one.code_sha256) != lost)
    (out / RECORDS[1]).write_bytes(b"".join(kept))
    judge = judging_stage.judge_jobs

    def seen(jobs, *settings):
        made.extend(job.key for job in jobs)
        return judge(jobs, *settings)

    monkeypatch.setattr(judging_stage, "judge_jobs", seen)
    monkeypatch.setattr(generation_stage, "open_model", lambda arm, *_, **__: made.append(arm))
    make(path)
    assert identities(out) == identities(narrow) and made == [lost]


@pytest.mark.parametrize("judged", [True, False])
def test_completions_that_no_look_has_seen_go_when_a_run_stops(
    narrow, quick_config, tmp_path, judged
):
    """As they are there where a bench takes an arm's completions from another run."""
    path = quick_config(tmp_path / "out", equivalence=WIDE)
    out, results = make(path)
    if not judged:
        (out / RECORDS[1]).unlink()
    shutil.copy(narrow / RECORDS[0], out)
    make(path)
    assert problems_of(out) == look_of(path, results).problems


def test_several_processes_stop_at_the_same_look(run_server, quick_config, tmp_path):
    from tests.evaluator.generation.test_processes import fork

    alone, _ = make(quick_config(tmp_path / "alone", equivalence=WIDE))
    path = quick_config(tmp_path / "shared", equivalence=WIDE)
    pids = fork(run_server, path, 2)
    assert [run_server.wait(pid) for pid in pids] == [0, 0]
    assert identities(tmp_path / "shared") == identities(alone)


def test_a_family_that_is_most_of_the_suite_makes_no_look_fail():
    """A look before it has so small a part of all information that it decides nothing."""
    run, said = made_up_run(4), []
    families = enumerate(["large"] * 400 + [None] * 20)
    one = run.problems[0]
    problems = tuple(dataclasses.replace(one, id=f"P{k}", family=name) for k, name in families)
    run = dataclasses.replace(run, problems=problems)
    for planned in planned_looks(run):
        summary = summarize(run, seen_by(planned, run))
        assert summary.look == planned.look and describe(summary)
        said += [summary.comparison("nf4").verdict] if planned.look.time < 0.1 else []
    assert said and set(said) == {"inconclusive"}


def made_up_run(looks):
    run = made_up.facts(1, {"base": "base", "restored": "restored", "nf4": "merged"}, 0.1)
    equivalence = {"margin": 0.1, "looks": looks}
    return dataclasses.replace(run, config={**run.config, "equivalence": equivalence})


def seen_by(planned, run):
    """The records of the problems that a look has seen."""
    return {key: one for key, one in made_up.records(run).items() if key[1] in planned.problems}


def test_an_unfinished_look_is_in_no_number():
    run = made_up_run(2)
    first, records = planned_looks(run)[0], made_up.records(run)
    extra = next(key for key in records if key[1] not in first.problems)
    summary = summarize(run, {**seen_by(first, run), extra: records[extra]})
    assert {problem.id for problem in summary.problems} == first.problems
    assert (summary.look.number, summary.planned) == (1, made_up.PROBLEMS)
    assert "Look 1 of 2: 100 of 200 problems" in describe(summary)[0]


def test_looking_asks_for_more_at_each_look():
    """Nothing flips in 100 of 200 problems: a match at δ = 10 points, whose p-value is dearer."""
    run = made_up_run(2)
    first = planned_looks(run)[0]
    found = summarize(run, seen_by(first, run)).comparison("nf4")
    config = {**run.config, "equivalence": {"margin": 0.1}}
    problems = tuple(problem for problem in run.problems if problem.id in first.problems)
    short = dataclasses.replace(run, config=config, problems=problems)
    alone = summarize(short, seen_by(first, run)).comparison("nf4")
    assert found.verdict == alone.verdict == "match"
    assert found.match_p > alone.match_p and found.interval90.low < alone.interval90.low
