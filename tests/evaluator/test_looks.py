"""Runs that are looked at while they grow."""

import dataclasses

import pytest

from evaluator.config.run_config import load_config
from evaluator.generation import stage as generation_stage
from evaluator.generation.prepare import prepare
from evaluator.report.results import read_summary, write_results
from evaluator.report.sentences import describe
from evaluator.report.summary import summarize
from evaluator.store.looks import planned_looks
from evaluator.store.records import GenerationRecord, read
from evaluator.store.run_directory import RunDirectory
from tests.evaluator.report import made_up
from tests.evaluator.test_run import RECORDS
from tests.evaluator.whole_runs import identities, make

WIDE = {"margin": 0.9, "looks": 3}  # so wide that few families show a match
NARROW = {"margin": 0.05, "looks": 3}  # so narrow that none do


def problems_of(out):
    records = read(out / "generations.jsonl", GenerationRecord.from_row)
    return {problem for _, problem, _ in records}


def cut(out, shares):
    for name, share in zip(RECORDS, shares, strict=True):
        content = (out / name).read_bytes()
        (out / name).write_bytes(content[: int(share * len(content))])


def test_a_run_stops_at_the_look_that_decides_every_arm(quick_config, tmp_path):
    path = quick_config(tmp_path / "out", equivalence=WIDE)
    looks = planned_looks(prepare(load_config(path)).facts)
    out, results = make(path)
    reached = results.summary.look
    assert reached.number < 3 and results.summary.decided
    assert problems_of(out) == looks[reached.number - 1].problems
    assert f"Look {reached.number} of 3" in results.sentences[0]
    assert "so the run stopped" in results.sentences[0]
    assert any("and 3 looks were fixed before the first" in one for one in results.sentences)
    before = identities(out)
    make(path)
    assert identities(out) == before
    assert read_summary(RunDirectory(out)).look == reached


def test_an_undecided_run_goes_on_to_the_last_look(quick_config, tmp_path):
    """To the same texts and verdicts as a run of one look: batches differ, float32 does not."""
    out, results = make(quick_config(tmp_path / "looked", equivalence=NARROW))
    assert results.summary.look.number == 3
    whole, _ = make(quick_config(tmp_path / "whole", equivalence={"margin": 0.05}))
    assert identities(out) == identities(whole)


@pytest.mark.parametrize("shares", [(0.2, 0.0), (0.7, 0.3), (1.0, 0.6)])
def test_a_run_of_several_looks_goes_on_after_a_kill(quick_config, tmp_path, shares):
    out, _ = make(quick_config(tmp_path / "out", equivalence=NARROW))
    before = identities(out)
    cut(out, shares)
    make(quick_config(out, equivalence=NARROW))
    assert identities(out) == before


def test_a_lost_verdict_of_an_early_look_costs_no_completion(quick_config, tmp_path, monkeypatch):
    path, loaded = quick_config(tmp_path / "out", equivalence=NARROW), []
    out, _ = make(path)
    before = identities(out)
    first = planned_looks(prepare(load_config(path)).facts)[0].problems
    lost = next(one for one in before[1] if one.problem in first)
    lines = zip((out / "verdicts.jsonl").read_bytes().splitlines(True), before[1], strict=True)
    (out / "verdicts.jsonl").write_bytes(b"".join(line for line, one in lines if one != lost))
    monkeypatch.setattr(generation_stage, "open_model", lambda arm, *_, **__: loaded.append(arm))
    make(path)
    assert identities(out) == before and not loaded


def test_completions_that_no_look_has_seen_go_when_a_run_stops(quick_config, tmp_path):
    whole, _ = make(quick_config(tmp_path / "whole", equivalence=NARROW))
    path = quick_config(tmp_path / "out", equivalence=WIDE)
    out, results = make(path)
    (out / "verdicts.jsonl").unlink()
    (out / "generations.jsonl").write_bytes((whole / "generations.jsonl").read_bytes())
    make(path)
    looks = planned_looks(prepare(load_config(path)).facts)
    assert problems_of(out) == looks[results.summary.look.number - 1].problems


def test_several_processes_stop_at_the_same_look(run_server, quick_config, tmp_path):
    from tests.evaluator.generation.test_processes import fork

    alone, _ = make(quick_config(tmp_path / "alone", equivalence=WIDE))
    path = quick_config(tmp_path / "shared", equivalence=WIDE)
    pids = fork(run_server, path, 2)
    assert [run_server.wait(pid) for pid in pids] == [0, 0]
    assert identities(tmp_path / "shared") == identities(alone)


@pytest.mark.parametrize("largest", [40, 400])
def test_a_family_that_is_most_of_the_suite_makes_no_look_fail(largest):
    """A look before it has so small a part of all information that it decides nothing."""
    run, said = made_up_run(4), []
    families = ["large"] * largest + [None] * 20
    problems = tuple(
        dataclasses.replace(run.problems[0], id=f"P{k}", family=name)
        for k, name in enumerate(families)
    )
    run = dataclasses.replace(run, problems=problems)
    records = made_up.records(run)
    looks = planned_looks(run)
    for planned in looks:
        some = {key: one for key, one in records.items() if key[1] in planned.problems}
        summary = summarize(run, some)
        assert summary.look == planned.look and describe(summary)
        said += [summary.comparison("nf4").verdict] if planned.look.time < 0.1 else []
    assert said and set(said) == {"inconclusive"}


def made_up_run(looks):
    run = made_up.facts(1, {"base": "base", "restored": "restored", "nf4": "merged"}, 0.1)
    equivalence = {"margin": 0.1, "looks": looks}
    return dataclasses.replace(run, config={**run.config, "equivalence": equivalence})


def test_an_unfinished_look_is_in_no_number():
    run = made_up_run(2)
    records = made_up.records(run)
    first = planned_looks(run)[0].problems
    extra = next(key for key in records if key[1] not in first)
    some = {key: one for key, one in records.items() if key[1] in first or key == extra}
    summary = summarize(run, some)
    assert {problem.id for problem in summary.problems} == first
    assert (summary.look.number, summary.planned) == (1, made_up.PROBLEMS)


def test_looking_asks_for_more_at_each_look():
    """Nothing flips in 100 of 200 problems: a match at δ = 10 points, whose p-value is dearer."""
    run = made_up_run(2)
    first = planned_looks(run)[0].problems
    some = {key: one for key, one in made_up.records(run).items() if key[1] in first}
    found = summarize(run, some).comparison("nf4")
    short = dataclasses.replace(
        run,
        config={**run.config, "equivalence": {"margin": 0.1}},
        problems=tuple(p for p in run.problems if p.id in first),
    )
    alone = summarize(short, some).comparison("nf4")
    assert found.verdict == alone.verdict == "match"
    assert found.match_p > alone.match_p
    assert found.interval90.low < alone.interval90.low


def test_a_table_of_a_run_that_was_stopped_by_hand_says_so(tmp_path):
    run = made_up_run(4)
    (tmp_path / "run").mkdir()
    directory = made_up.begun(tmp_path / "run", run)
    first = planned_looks(run)[0].problems
    lines = directory.verdicts.read_bytes().splitlines(keepends=True)
    keys = made_up.records(run)
    kept = [line for line, key in zip(lines, keys, strict=True) if key[1] in first]
    directory.verdicts.write_bytes(b"".join(kept))
    assert "Look 1 of 4: 50 of 200 problems" in write_results(directory).sentences[0]
