"""Summaries, tables and sentences from made-up verdict records; no model, no compiler."""

import dataclasses
import json
from typing import get_args

import pandas as pd
import pytest

from evaluator.errors import RecordsError
from evaluator.judging.verdicts import Verdict
from evaluator.report.results import write_results
from evaluator.report.sentences import describe
from evaluator.report.summary import VERDICTS, summarize
from evaluator.report.tables import (
    arms_frame,
    arms_table,
    groups_frame,
    sensitivity_table,
    verdicts_table,
)
from evaluator.report.text_table import TextTable
from evaluator.store.records import append
from evaluator.store.run_directory import ProblemFacts, RunDirectory
from tests.evaluator.report.made_up import KINDS, PROBLEMS, facts, records


def test_rates_of_an_arm():
    run = facts()
    summary = summarize(run, records(run))
    restored = summary.arms[1]
    assert restored.pass_rate == 0.6
    assert restored.interval.low < 0.6 < restored.interval.high
    assert restored.compile_rate == pytest.approx(170 / 200)
    assert restored.no_code_rate == pytest.approx(10 / 200)
    assert restored.mean_score == pytest.approx((120 * 100 + 50 * 25) / 200)
    expected = {"AC": 120, "WA": 50, "CE": 30}
    assert {k: v for k, v in restored.verdicts.items() if v} == expected


def test_the_share_of_completions_in_which_a_program_was_chosen_is_reported():
    run = facts()
    choices = {"P3": "only", "P4": "last", "P5": "after_reasoning"}  # others: of earlier versions

    def chosen(one):
        choice = choices.get(one.problem, "") if one.arm == "nf4" else "only"
        return dataclasses.replace(one, choice=choice)

    summary = summarize(run, records(run, chosen))
    assert {arm.facts.name: arm.choice_rate for arm in summary.arms if arm.choice_rate} == {
        "nf4": pytest.approx(2 / 200)
    }
    assert arms_frame(summary).set_index("arm").loc["nf4", "choice_rate"] == pytest.approx(0.01)
    assert any("chose one" in s and s.endswith("nf4 1.0 %.") for s in describe(summary))
    assert not any("choice" in sentence for sentence in describe(summarize(run, records(run))))


def test_every_verdict_has_a_column():
    assert sorted(VERDICTS) == sorted(get_args(Verdict))


def test_one_row_an_arm_with_every_number():
    run = facts()
    frame = arms_frame(summarize(run, records(run))).set_index("arm")
    assert list(frame.index) == list(KINDS)
    assert frame.loc["base", "lost"] == 60
    assert frame.loc["base", "difference"] == pytest.approx(-0.3)
    assert frame.loc["base", "verdict"] == "differ"
    assert pd.isna(frame.loc["restored", "verdict"])
    assert (frame.loc["nf4", "verdict"], frame.loc["nf4", "informative"]) == ("match", True)
    assert frame.loc["nf4", "p_value"] == 1
    assert frame.loc["gone", "verdict"] == "differ"
    assert frame.loc["nf4", "capture"] == 0.5
    assert (frame["weight_bytes"] == 1_500_000).all()


def test_text_tables_have_a_cell_for_every_column():
    run = facts(samples=4)
    summary = summarize(run, records(run))
    for table in (arms_table(summary), verdicts_table(summary)):
        assert {len(row) for row in table.rows} == {len(table.header)}
    header = arms_table(summary).header
    assert "pass@2" in header
    assert "pass@4" in header
    row = dict(zip(header, arms_table(summary).rows[2], strict=True))
    assert row["verdict"] == "match"
    assert row["gained / lost"] == "+0 / −0"
    assert row["size"] == "1.50 MB"
    assert row["capture"] == "0.500"


def test_markdown_and_selection():
    table = TextTable("T", ("a", "b", "c"), (("1", "x|y", "3"),))
    assert table.markdown() == "## T\n\n| a | b | c |\n| --- | ---: | ---: |\n| 1 | x\\|y | 3 |\n"
    assert table.select("S", ("c", "none", "a")).rows == (("3", "1"),)


def test_groups_add_up():
    run = facts()
    summary = summarize(run, records(run))
    frame = groups_frame(summary)
    for by in ("language", "family"):
        part = frame[frame["by"] == by]
        assert part["problems"].sum() == PROBLEMS
        weighted = (part["problems"] * part["passed_restored"]).sum() / PROBLEMS
        assert weighted == pytest.approx(0.6)


def test_arms_may_be_called_as_columns_are(tmp_path):
    names = ("by", "group", "problems", "problem", "family", "language", "arm", "AC")
    run = facts(kinds={"restored": "restored"} | dict.fromkeys(names, "merged"))
    directory = RunDirectory(tmp_path)
    directory.begin(run, "", overwrite=False)
    append(directory.verdicts, list(records(run).values()))
    write_results(directory)
    languages = (directory.tables / "languages.md").read_text()
    assert f"| language | problems | restored | {' | '.join(names)} |" in languages
    assert f"| en | 100 |{' 60.0 % |' * 9}" in languages


def test_a_problem_that_the_judge_failed_on_counts_for_no_arm():
    run = facts()

    def fail(one):
        broken = one.arm == "nf4" and one.problem in ("P0", "P199")
        return dataclasses.replace(one, verdict="UKE", score=0.0) if broken else one

    summary = summarize(run, records(run, fail))
    assert summary.unjudged == ("P0", "P199")
    assert {arm.passes.shape for arm in summary.arms} == {(198, 1)}
    assert summary.arms[1].pass_rate == pytest.approx(119 / 198)
    assert summary.arms[2].verdicts["UKE"] == 2
    assert "failed on 2 problems" in describe(summary)[0]


def test_only_failures_of_the_judge_are_an_error():
    run = facts()
    with pytest.raises(RecordsError, match="every problem"):
        summarize(run, records(run, lambda one: dataclasses.replace(one, verdict="UKE")))


def test_missing_records_are_an_error():
    run = facts()
    made = records(run)
    del made["nf4", "P7", 0], made["base", "P9", 0]
    with pytest.raises(RecordsError, match="2 of 800 verdicts are missing"):
        summarize(run, made)


def test_sentences_where_an_effect_was_there():
    run = facts()
    text = "\n".join(describe(summarize(run, records(run))))
    assert "The adapter changes the pass rate by +30.0 points" in text
    assert "shows that less than δ = 5.0 points of that were lost.\n" in text
    assert "nf4 matches restored within ±5.0 points" in text
    assert "gone differs from restored" in text
    assert "uninformative" not in text
    assert "200 problems could have shown a δ of 1.5 points" in text
    # base and gone differ: their flips are no noise, and nf4 is what is left
    assert "With as many flips as nf4 has" in text


@pytest.mark.parametrize(("margin", "most"), [(0.11, True), (0.13, False)])
def test_a_match_at_a_margin_of_half_the_effect_does_not_show_that_most_was_kept(margin, most):
    run = facts(margin=margin)  # the effect is 30 points, at least 24
    text = "\n".join(describe(summarize(run, records(run))))
    assert f"less than δ = {100 * margin:.1f} points of that were lost." in text
    assert ("It does not show that most of the effect was kept" in text) is not most
    assert ("that may be as small as 24.1 points." in text) is not most


def test_sentences_where_no_effect_was_detected():
    run = facts(kinds={"restored": "restored", "gone": "base", "nf4": "merged"})
    made = records(run, lambda one: dataclasses.replace(one, verdict="AC"))
    text = "\n".join(describe(summarize(run, made)))
    assert "No effect of the adapter on the pass rate was detected: 0.0 points" in text
    assert "This match is uninformative" in text
    table = arms_table(summarize(run, made))
    assert table.rows[2][table.header.index("verdict")] == "match (uninformative)"


def test_an_effect_below_the_margin_makes_a_match_uninformative():
    run = facts(margin=0.4)
    text = "\n".join(describe(summarize(run, records(run))))
    assert "effect on the pass rate is surely smaller than the margin: +30.0 points" in text
    assert "nf4 matches restored" in text
    assert "This match is uninformative: base matches as well." in text
    assert "no adapter effect was detected" not in text


REPEATED = {"restored": "restored", "again": "restored", "base": "base", "nf4": "merged"}


def noisy(one):
    """The repeat flips 10 problems each way, nf4 2 and 1."""
    i = int(one.problem[1:])
    gains, losses = {"again": (10, 10), "nf4": (2, 1)}.get(one.arm, (0, 0))
    if i < losses:
        return dataclasses.replace(one, verdict="WA")
    return dataclasses.replace(one, verdict="AC") if 120 <= i < 120 + gains else one


def repeated(seed=1, temperature=0.8):
    """Facts with a repeat of this seed."""
    run = facts(kinds=REPEATED)
    arms = [{"name": name, "seed": seed if name == "again" else None} for name in REPEATED]
    decoding = {**run.config["decoding"], "temperature": temperature}
    return dataclasses.replace(run, config={**run.config, "arms": arms, "decoding": decoding})


def test_a_repeat_of_the_reference_is_the_noise_floor():
    run = repeated()
    summary = summarize(run, records(run, noisy))
    assert summary.repeats == ("again",)
    text = "\n".join(describe(summary))
    assert "Noise floor: again is restored once more (A/A)" in text
    assert "10.0 % of the samples flipped" in text
    assert "It flips 1.5 % of the samples where the A/A repeat flips 10.0 %" in text
    assert "within the repeat's 95 % interval" in text
    assert "With as many flips as again has (10.0 % of the samples)" in text
    assert "again matches" not in text
    table = arms_table(summary)
    assert table.rows[1][table.header.index("verdict")] == "A/A: match"
    shown = sensitivity_table(summary)
    assert {len(row) for row in shown.rows} == {len(shown.header)}
    assert [row[2] for row in shown.rows] == ["1.00", "3.00", "0.15"]


@pytest.mark.parametrize(
    "run",
    [repeated(temperature=0.0), repeated(seed=None), repeated(seed=0)],
    ids=["greedy", "seed", "seed-named"],
)
def test_a_repeat_with_the_references_noise_is_no_floor(run):
    summary = summarize(run, records(run, noisy))
    assert summary.repeats == ("again",) and summary.noise == ()
    text = "\n".join(describe(summary))
    assert "again is restored once more with the same noise (A/A)" in text
    assert "and 10.0 % of the samples did. It is no noise floor" in text
    assert "where the A/A repeat flips" not in text
    assert "With as many flips as nf4 has (1.5 % of the samples)" in text
    assert sensitivity_table(summary).header[1:3] == ("flips", "δ")


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


def test_without_a_repeat_flips_stand_alone():
    run = facts()
    table = sensitivity_table(summarize(run, records(run)))
    assert table.header[1:3] == ("flips", "δ")
    assert dict(zip(table.header, table.rows[1], strict=True)) == {
        "arm": "nf4",
        "flips": "0.0 %",
        "δ": "5.0",
        "δ without flips": "1.5",
        "δ at 80 %": "1.5",
        "difference at 80 %": table.rows[1][-1],
    }


@pytest.mark.parametrize("kinds", [{"restored": "restored", "nf4": "merged"}, {"nf4": "merged"}])
def test_sentences_without_control_or_reference(kinds):
    run = facts(kinds=kinds)
    text = "\n".join(describe(summarize(run, records(run))))
    if "restored" in kinds:
        assert "There is no base arm" in text
        assert "cannot be told" in text
    else:
        assert "no restored arm" in text


def test_files_of_a_run(tmp_path):
    run, directory = facts(), RunDirectory(tmp_path)
    directory.begin(run, "name: demo\n", overwrite=False)
    versions = {"versions": {"torch": "9.9"}, "machine": {"cpu": "c", "cpus": 2, "device": "cpu"}}
    directory.add_session({"command": "tinylora-eval x", "sandbox": {"rung": "bwrap"}, **versions})
    append(directory.verdicts, list(records(run).values()))
    results = write_results(directory)
    assert {p.name for p in directory.tables.iterdir()} == {
        f"{name}.{kind}"
        for name, kinds in (
            ("arms", ("csv", "parquet", "md", "tex")),
            ("verdicts", ("csv", "parquet", "md", "tex")),
            ("groups", ("csv", "parquet")),
            ("languages", ("md", "tex")),
            ("sensitivity", ("md", "tex")),
            ("token_level", ("csv", "parquet")),
        )
        for kind in kinds
    }
    from_csv = pd.read_csv(directory.tables / "arms.csv")
    from_parquet = pd.read_parquet(directory.tables / "arms.parquet")
    assert list(from_csv["pass_rate"]) == list(from_parquet["pass_rate"]) == [0.3, 0.6, 0.6, 0.3]
    problems = pd.read_parquet(tmp_path / "problems.parquet")
    assert problems["passed_restored"].sum() == 120
    comparisons = json.loads((tmp_path / "comparison.json").read_text())["comparisons"]
    assert [c["verdict"] for c in comparisons] == ["differ", "match", "differ"]
    assert comparisons[1]["provable_margin"] == pytest.approx(0.0149, abs=1e-4)
    assert comparisons[1]["detectable_difference"] > 0.01
    assert "Made by `tinylora-eval x`" in (directory.tables / "arms.tex").read_text()
    for path in (directory.tables / "arms.md", tmp_path / "report.md"):
        assert "Made by `tinylora-eval x` with torch 9.9" in path.read_text()
    assert all(sentence in (tmp_path / "report.md").read_text() for sentence in results.sentences)


def test_every_set_of_versions_and_machines_is_named(tmp_path):
    run, directory = facts(), RunDirectory(tmp_path)
    directory.begin(run, "", overwrite=False)
    append(directory.verdicts, list(records(run).values()))
    cpu = {"cpu": "c", "cpus": 2, "device": "cpu", "gpu": None}
    cuda = {**cpu, "device": "cuda:0", "gpu": "Big One"}
    for command, torch, machine in (
        ("first", "8.8", cuda),
        ("second", "9.9", cuda),
        ("third", "9.9", cpu),
        ("fourth", "9.9", cuda),
    ):
        session = {"command": command, "versions": {"torch": torch}, "machine": machine}
        directory.add_session({**session, "sandbox": {"rung": "bwrap"}})
    write_results(directory)
    report = (tmp_path / "report.md").read_text()
    assert report.endswith(
        "Its records are from 3 sets of versions and machines:  \n"
        "Made by `first` with torch 8.8.  \n"
        "Machine: c, 2 cores, cuda:0 (Big One); sandbox: bwrap.  \n"
        "Made by `fourth` with torch 9.9.  \n"
        "Machine: c, 2 cores, cuda:0 (Big One); sandbox: bwrap.  \n"
        "Made by `third` with torch 9.9.  \n"
        "Machine: c, 2 cores, cpu; sandbox: bwrap.\n"
    )
    page = (tmp_path / "report.html").read_text()
    assert 'made with <a href="#made">3 sets of versions and machines</a>' in page
    for made in (
        "<code>first</code> with torch 8.8 on c, 2 cores, cuda:0 (Big One); sandbox: bwrap.",
        "<code>third</code> with torch 9.9 on c, 2 cores, cpu; sandbox: bwrap.",
    ):
        assert made in page


def test_a_suite_without_languages_or_families(tmp_path):
    run = facts()
    bare = tuple(ProblemFacts(p.id, None, None) for p in run.problems)
    run, directory = dataclasses.replace(run, problems=bare), RunDirectory(tmp_path)
    directory.begin(run, "", overwrite=False)
    append(directory.verdicts, list(records(run).values()))
    assert len(write_results(directory).tables) == 3


def test_a_directory_that_is_no_run(tmp_path):
    with pytest.raises(RecordsError, match=r"no run\.json"):
        write_results(RunDirectory(tmp_path))
    (tmp_path / "run.json").write_text('{"format": "other"}')
    with pytest.raises(RecordsError, match="expected format"):
        write_results(RunDirectory(tmp_path))
