"""δ is fixed in advance only where every completion was made under the plan that holds it."""

import json
from dataclasses import replace

import pytest

from evaluator.errors import RecordsError
from evaluator.store.plan import check_makers, kept_plan, maker_ids, plan_id, write_plan
from evaluator.store.records import GenerationRecord, append, read
from evaluator.store.run_directory import RunDirectory
from tests.evaluator.report import made_up


def completion(facts, problem="P0", arm="base"):
    ids = {"maker": maker_ids(facts)[arm], "plan": plan_id(facts)}
    return GenerationRecord(arm, problem, 0, "text", 1, "stop", 0.1, **ids)


@pytest.fixture
def facts():
    return made_up.facts(1, {"base": "base", "restored": "restored"})


@pytest.fixture
def begun(tmp_path, facts):
    """A run with its plan and one completion."""
    directory = begin(tmp_path / "run", facts)
    append(directory.generations, [completion(facts)])
    return directory


def begin(folder, facts):
    """A run with its plan."""
    directory = RunDirectory(folder)
    directory.path.mkdir()
    directory.begin(facts, "name: made\n", overwrite=False)
    write_plan(directory, facts)
    return directory


def kept(directory):
    generations = read(directory.generations, GenerationRecord.from_row)
    return kept_plan(directory, directory.read_facts(), generations.values())


def with_margin(facts, margin):
    return replace(facts, config={**facts.config, "equivalence": {"margin": margin}})


def test_plan_holds_margin_suite_samples_and_arms(begun, facts):
    plan = json.loads(begun.plan.read_text())
    assert plan["id"] == kept(begun) == plan_id(facts)
    assert plan["margin"] == facts.config["equivalence"]["margin"]
    assert (plan["suite"], plan["samples"]) == (facts.suite_digest, 1)
    assert [arm["name"] for arm in plan["arms"]] == ["base", "restored"]
    assert plan["time"].endswith("+00:00")


@pytest.mark.parametrize("change", [{"margin": 0.2}, {"looks": 4}])
def test_margin_and_looks_changed_in_run_json_are_not_planned(begun, change):
    content = json.loads(begun.facts.read_text())
    content["config"]["equivalence"] |= change
    begun.facts.write_text(json.dumps(content))
    assert kept(begun) is None


def test_margin_changed_in_run_and_plan_is_not_planned(begun, facts, tmp_path):
    changed = with_margin(facts, 0.2)
    begun.facts.unlink()
    begun.plan.unlink()
    begun.begin(changed, "name: made\n", overwrite=False)
    write_plan(begun, changed)
    assert not begun.plan.exists()  # a completion was there before it
    begin(tmp_path / "other", changed).plan.rename(begun.plan)
    assert kept(begun) is None


def test_completions_in_a_new_out_with_another_margin_are_not_planned(begun, facts, tmp_path):
    other = begin(tmp_path / "other", with_margin(facts, 0.2))
    other.generations.write_bytes(begun.generations.read_bytes())
    assert kept(other) is None


@pytest.mark.parametrize("edited", [{"margin": 0.2}, {"id": "0" * 16}, {"suite": "9" * 64}])
def test_edited_plans_are_not_kept(begun, edited):
    begun.plan.write_text(json.dumps(json.loads(begun.plan.read_text()) | edited))
    assert kept(begun) is None


def test_near_copies_found_later_make_no_other_run(begun, facts):
    assert begun.differences(replace(facts, near_copies=(("P1", "P2"),))) == []


@pytest.mark.parametrize("change", [{"suite_digest": "9" * 64}, {"prompts_digest": "9" * 64}])
def test_another_suite_is_another_plan(begun, facts, change):
    assert kept_plan(begun, replace(facts, **change), [completion(facts)]) is None


def test_runs_without_a_plan_are_not_planned(begun, facts):
    begun.plan.unlink()
    assert kept(begun) is None
    assert kept_plan(begun, facts, [replace(completion(facts), plan="")]) is None


def test_texts_of_another_model_under_the_name_of_an_arm_are_refused(begun, facts):
    mine = completion(facts)
    check_makers(begun, facts, {mine.key: mine})
    older = replace(mine, maker="")
    check_makers(begun, facts, {older.key: older})
    arms = tuple(replace(arm, digest="8" * 64) for arm in facts.arms)
    foreign = completion(replace(facts, arms=arms))
    with pytest.raises(RecordsError, match="P0 under arm base was made by another model"):
        check_makers(begun, facts, {foreign.key: foreign})


def test_an_arm_has_the_same_maker_under_another_name_and_another_one_for_other_texts(facts):
    renamed = json.loads(json.dumps(facts.config).replace('"base"', '"plain"'))
    arms = tuple(replace(arm, name="plain") if arm.name == "base" else arm for arm in facts.arms)
    other = replace(facts, config=renamed, arms=arms)
    assert maker_ids(other)["plain"] == maker_ids(facts)["base"]
    changes = [{"prompts_digest": "9" * 64}]
    for change in ({"temperature": 0.7}, {"repetition_penalty": 1.2}, {"seed": 5}):
        decoding = {**facts.config["decoding"], **change}
        changes.append({"config": {**facts.config, "decoding": decoding}})
    for change in changes:
        assert maker_ids(replace(facts, **change))["base"] != maker_ids(facts)["base"]
