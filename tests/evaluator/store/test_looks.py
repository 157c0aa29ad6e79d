"""Which problems a look has seen, and how far a run has come."""

import dataclasses

import pytest

from evaluator.errors import ConfigError
from evaluator.store.looks import complete_look, planned_looks
from evaluator.store.run_directory import ProblemFacts
from tests.evaluator.report import made_up


def facts(looks, families=None, **changes):
    run = made_up.facts(1, {"base": "base", "restored": "restored"})
    if families is not None:
        named = enumerate(families)
        changes["problems"] = tuple(ProblemFacts(f"P{i}", name, "en") for i, name in named)
    equivalence = {"margin": 0.05, "looks": looks}
    return dataclasses.replace(run, config={**run.config, "equivalence": equivalence}, **changes)


def test_looks_grow_by_whole_families_to_all_problems():
    run = facts(4, [f"f{i // 3}" for i in range(60)])
    looks = planned_looks(run)
    assert [len(look.problems) for look in looks] == [15, 30, 45, 60]
    assert [look.look.time for look in looks] == [0.25, 0.5, 0.75, 1.0]
    before = frozenset()
    for look in looks:
        assert before < look.problems and look.new == look.problems - before
        before = look.problems
        families = {run.problems[int(problem[1:])].family for problem in look.new}
        assert len(families) * 3 == len(look.new)
    assert [look.is_last for look in looks] == [False, False, False, True]


def test_order_is_the_suites_and_not_that_of_its_file():
    run = facts(2)
    first = planned_looks(run)[0].problems
    assert first != {problem.id for problem in run.problems[:100]}
    turned = dataclasses.replace(run, problems=run.problems[::-1])
    assert planned_looks(turned)[0].problems == first
    other = dataclasses.replace(run, suite_digest="9" * 64)
    assert planned_looks(other)[0].problems != first


def test_time_counts_a_family_as_one_unit():
    """A family of 9 beside 19 single problems holds 81 of 100 parts of the variance."""
    run = facts(2, ["big"] * 9 + [None] * 19)
    first = planned_looks(run)[0]
    assert first.look.time == pytest.approx(0.9 if "P0" in first.problems else 0.1, abs=0.02)


def test_more_looks_than_families_are_refused():
    with pytest.raises(ConfigError, match="4 looks need as many problems .* the suite has 3"):
        planned_looks(facts(4, ["a", "a", "b", "c"]))


def test_how_far_a_run_has_come():
    run = facts(3)
    first, second, last = planned_looks(run)
    records = made_up.records(run)
    keys = [key for key in records if key[1] in first.problems]
    assert complete_look(run, keys[1:]) is None
    assert complete_look(run, keys) == first
    assert complete_look(run, [(arm, problem, -1) for arm, problem, _ in records]) is None
    keys.append(next(key for key in records if key[1] in second.new))
    assert complete_look(run, keys) == first
    assert complete_look(run, records) == last
