"""What the report says in words, from made-up records."""

import dataclasses

import pytest

from evaluator.report.sentences import describe
from evaluator.report.summary import summarize
from evaluator.report.tables import arms_frame, arms_table, sensitivity_table
from tests.evaluator.report.made_up import facts, noisy, records, repeated


def test_choice_among_several_programs_is_reported():
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


def all_pass(one):
    return dataclasses.replace(one, verdict="AC")


def few_flips(one):
    """The base loses 8 of the reference's passes and gains 5; nf4 flips none."""
    if one.arm != "base":
        return one
    i = int(one.problem[1:])
    return dataclasses.replace(one, verdict="AC" if 8 <= i < 125 else "WA")


MOST = "It does not show that most of the effect was kept, as that may be as small as 24.1 points."
NO_CONTROL = {"restored": "restored", "nf4": "merged"}


@pytest.mark.parametrize(
    ("run", "change", "said", "unsaid"),
    [
        (
            facts(),
            None,
            [
                "The adapter changes the pass rate by +30.0 points",
                "shows that less than δ = 5.0 points of that were lost.\n",
                "nf4 matches restored within ±5.0 points",
                "gone differs from restored",
                "δ = 5.0 points is not known to have been fixed before the first completion",
                "200 problems could have shown a δ of 1.5 points",
                "2 arms were compared",  # the control is not chosen among
                "p-values are adjusted (Holm): the matches of nf4 hold jointly.",
                # base and gone differ: their flips are no noise, and nf4 is what is left
                "With as many flips as nf4 has",
            ],
            "uninformative",
        ),
        (facts(margin=0.11), None, ["less than δ = 11.0 points of that were lost."], MOST),
        (facts(margin=0.0025), None, ["±0.25 points", "δ = 0.25 points"], "0.2 points"),
        (facts(margin=0.13), None, ["less than δ = 13.0 points of that were lost.", MOST], "?"),
        (
            facts(kinds={"restored": "restored", "gone": "base", "nf4": "merged"}),
            all_pass,
            [
                "effect on the pass rate was measured as 0.0 points",
                "A match with restored says nothing here: the base without the adapter matches it",
                "This match is uninformative.",
            ],
            "neither differs",
        ),
        (
            facts(margin=0.04),
            few_flips,
            [
                "effect on the pass rate was measured as +1.5 points",
                "the base without the adapter neither differs from it nor matches it.",
                "nf4 matches restored",
            ],
            "matches it too",
        ),
        (
            facts(margin=0.4),
            None,
            [
                "effect on the pass rate was measured as +30.0 points",
                "nf4 matches restored",
                "the base without the adapter matches it too.",
            ],
            "of that were lost",
        ),
        (facts(kinds=NO_CONTROL), None, ["There is no base arm", "cannot be told"], "no restored"),
        (facts(kinds={"nf4": "merged"}), None, ["no restored arm"], "matches"),
    ],
    ids=["effect", "half", "fine", "more", "no effect", "inconclusive", "below the margin"]
    + ["no control", "no reference"],
)
def test_sentences(run, change, said, unsaid):
    summary = summarize(run, records(run, change))
    text = "\n".join(describe(summary))
    assert [sentence for sentence in said if sentence not in text] == []
    assert unsaid not in text
    marked = "match (uninformative)" in arms_table(summary).markdown()
    assert marked is ("This match is uninformative" in text)


@pytest.mark.parametrize(
    ("run", "floor"),
    [
        (repeated(others=2), "Noise floor of independent draws: again is restored once more (A/A)"),
        (repeated(seed=None, batch_size=3), "That is the noise floor of arms with the same noise."),
        (repeated(temperature=0.0, batch_size=3), "and 10.0 % of the samples did. That is the"),
        (repeated(seed=None, backend="vllm"), "That is the noise floor of arms with the same"),
    ],
    ids=["independent", "paired", "greedy", "engine"],
)
def test_a_repeat_of_the_same_kind_is_the_noise_floor(run, floor):
    summary = summarize(run, records(run, noisy))
    assert summary.repeats == ("again",)
    text = "\n".join(describe(summary))
    assert floor in text
    assert "With as many flips as again has (10.0 % of the samples)" in text
    assert "again matches" not in text


@pytest.mark.parametrize(
    "run",
    [
        repeated(temperature=0.0),
        repeated(seed=None),
        repeated(seed=0),
        repeated(seed=None, batch_size=16),  # that of all
    ],
    ids=["greedy", "seed", "seed-named", "batch"],
)
def test_repeat_in_equal_batches_with_the_references_noise_is_no_floor(run):
    summary = summarize(run, records(run, noisy))
    assert summary.repeats == ("again",)
    text = "\n".join(describe(summary))
    assert "again is restored once more with the same noise (A/A)" in text
    assert "so this is no noise floor" in text
    assert "With as many flips as nf4 has (1.5 % of the samples)" in text
    assert sensitivity_table(summary).header[1:3] == ("flips", "δ")


def test_flips_of_paired_arms_are_not_held_against_independent_draws():
    run = repeated()
    summary = summarize(run, records(run, noisy))
    text = "\n".join(describe(summary))
    assert "Noise floor of independent draws: again" in text
    assert "With as many flips as nf4 has (1.5 % of the samples)" in text
    assert [row[2] for row in sensitivity_table(summary).rows] == ["1.00", "", ""]


def test_independent_draws_are_held_against_an_independent_repeat_only():
    own, found = {"jitter": {"batch_size": 1}, "redraw": {"seed": 5}}, []
    kinds = {"restored": "restored", "base": "base", "engine": "completions"}
    for repeats in ((), ("jitter",), ("jitter", "redraw")):
        run = facts(kinds=kinds | dict.fromkeys(repeats, "restored"))
        arms = [dataclasses.replace(arm, paired=arm.name != "engine") for arm in run.arms]
        config = {**run.config, "arms": [{"name": a.name, **own.get(a.name, {})} for a in arms]}
        run = dataclasses.replace(run, arms=tuple(arms), config=config)
        summary = summarize(run, records(run))
        beside = {pair.arm: summary.yardstick(pair) for pair in summary.comparisons}
        found.append([beside[name] and beside[name].arm for name in ("engine", "base")])
        text = "\n".join(describe(summary))
        assert "engine: drawn independently of restored" in text
        assert ("A second restored arm with a seed" in text) is ("redraw" not in repeats)
    assert found == [[None, None], [None, "jitter"], ["redraw", "jitter"]]


def test_a_kept_plan_families_and_near_copies_are_named():
    run = facts()
    problems = tuple(
        dataclasses.replace(p, family=f"f{k // 2}") for k, p in enumerate(run.problems)
    )
    run = dataclasses.replace(run, problems=problems, near_copies=(("P1", "P2"), ("P7", "P9")))
    text = "\n".join(describe(summarize(run, records(run), plan="ab12")))
    assert "δ = 5.0 points was fixed before the first completion (plan ab12)." in text
    assert "The 200 problems form 100 families of variants." in text
    assert "4 problems of no family are near copies of one another (P1, P2; P7, P9)" in text
    assert "100 families of equal size could have shown a δ of" in text


def test_a_match_that_does_not_hold_jointly_is_marked():
    run = facts(margin=0.018)
    summary = summarize(run, records(run))
    table = arms_table(summary)
    assert table.rows[2][table.header.index("verdict")] == "match (alone)"
    assert "no match holds jointly; nf4 only taken alone" in "\n".join(describe(summary))
