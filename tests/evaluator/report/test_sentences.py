"""What the report says in words, from made-up records."""

import dataclasses

import pytest

from evaluator.report.sentences import describe
from evaluator.report.summary import summarize
from evaluator.report.tables import arms_frame, arms_table, sensitivity_table
from tests.evaluator.report.made_up import facts, noisy, records, repeated


def test_problem_that_the_judge_failed_on_is_named():
    run = facts()
    made = records(run)
    key = ("nf4", "P0", 0)
    made[key] = dataclasses.replace(made[key], verdict="UKE")
    assert (
        "failed on 1 problems (UKE), which are left out of every number: P0"
        in describe(summarize(run, made))[0]
    )


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
def test_match_at_half_the_effect_does_not_show_that_most_was_kept(margin, most):
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


def test_effect_below_the_margin_makes_a_match_uninformative():
    run = facts(margin=0.4)
    text = "\n".join(describe(summarize(run, records(run))))
    assert "effect on the pass rate is surely smaller than the margin: +30.0 points" in text
    assert "nf4 matches restored" in text
    assert "This match is uninformative: base matches as well." in text
    assert "no adapter effect was detected" not in text


@pytest.mark.parametrize(
    ("run", "floor"),
    [
        (repeated(others=2), "Noise floor of independent draws: again is restored once more (A/A)"),
        (repeated(seed=None, batch_size=3), "That is the noise floor of arms with the same noise."),
        (repeated(temperature=0.0, batch_size=3), "and 10.0 % of the samples did. That is the"),
    ],
    ids=["independent", "paired", "greedy"],
)
def test_a_repeat_of_the_same_kind_is_the_noise_floor(run, floor):
    summary = summarize(run, records(run, noisy))
    assert summary.repeats == ("again",)
    text = "\n".join(describe(summary))
    assert floor in text
    assert "It flips 1.5 % of the samples where the A/A repeat again flips 10.0 %" in text
    assert "within the repeat's 95 % interval" in text
    assert "With as many flips as again has (10.0 % of the samples)" in text
    assert "again matches" not in text


@pytest.mark.parametrize(
    "run",
    [repeated(temperature=0.0), repeated(seed=None), repeated(seed=0)],
    ids=["greedy", "seed", "seed-named"],
)
def test_repeat_in_equal_batches_with_the_references_noise_is_no_floor(run):
    summary = summarize(run, records(run, noisy))
    assert summary.repeats == ("again",)
    text = "\n".join(describe(summary))
    assert "again is restored once more with the same noise (A/A)" in text
    assert "so this is no noise floor" in text
    assert "where the A/A repeat" not in text
    assert "With as many flips as nf4 has (1.5 % of the samples)" in text
    assert sensitivity_table(summary).header[1:3] == ("flips", "δ")


def test_flips_of_paired_arms_are_not_held_against_independent_draws():
    run = repeated()
    summary = summarize(run, records(run, noisy))
    text = "\n".join(describe(summary))
    assert "Noise floor of independent draws: again" in text
    assert "where the A/A repeat" not in text
    assert "With as many flips as nf4 has (1.5 % of the samples)" in text
    assert [row[2] for row in sensitivity_table(summary).rows] == ["1.00", "", ""]


@pytest.mark.parametrize("kinds", [{"restored": "restored", "nf4": "merged"}, {"nf4": "merged"}])
def test_sentences_without_control_or_reference(kinds):
    run = facts(kinds=kinds)
    text = "\n".join(describe(summarize(run, records(run))))
    if "restored" in kinds:
        assert "There is no base arm" in text
        assert "cannot be told" in text
    else:
        assert "no restored arm" in text
