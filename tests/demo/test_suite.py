"""The demo suite as it is committed."""

import re
from pathlib import Path
from random import Random

import pytest

from demo.families import FAMILIES, Family
from demo.make_suite import accepts
from demo.programs import compiled, output_of
from demo.split import heldout_variants, only_heldout, train_variants
from evaluator.suites.problem import Problem
from evaluator.suites.suite import Suite, load_suite

SUITES = Path(__file__).resolve().parents[2] / "demo" / "suite"
BY_KEY = {family.key: family for family in FAMILIES}


@pytest.fixture(scope="module")
def train() -> Suite:
    return load_suite(SUITES / "train")


@pytest.fixture(scope="module")
def heldout() -> Suite:
    return load_suite(SUITES / "heldout")


def variant_of(problem: Problem, suite: Suite) -> tuple[Family, int]:
    """The problem's family and which of its chosen variants it is."""
    same = [p.id for p in suite.problems if p.family == problem.family]
    return BY_KEY[problem.family or ""], same.index(problem.id)


def test_the_suite_is_as_large_as_promised(train: Suite, heldout: Suite) -> None:
    problems = train.problems + heldout.problems
    assert len(problems) >= 300
    assert len(heldout.problems) >= 200
    assert len({p.id for p in problems}) == len(problems)
    assert len({p.family for p in problems}) >= 60
    assert {p.language for p in problems} == {"zh", "en"}
    assert not train.skipped + heldout.skipped


def test_heldout_problems_share_no_content_with_training(train: Suite, heldout: Suite) -> None:
    seen = {bare(p) for p in train.problems}
    assert len(seen) == len(train.problems)
    assert seen.isdisjoint(bare(p) for p in heldout.problems)
    kept_back = {f.key for f in FAMILIES if only_heldout(f)}
    assert kept_back.isdisjoint(p.family for p in train.problems)
    assert kept_back <= {p.family for p in heldout.problems}


def bare(problem: Problem) -> str:
    """The statement without its id, its sample and the person in it."""
    return re.sub(r"# D\d+ |## (样例|Sample).*", "", problem.statement, flags=re.DOTALL)


def test_archives_bring_subtasks_and_special_judges(heldout: Suite) -> None:
    assert sum(p.checker.kind == "special" for p in heldout.problems) >= 6
    assert sum(len({t.subtask for t in p.tests}) == 2 for p in heldout.problems) >= 15
    assert sum(any(t.pretest for t in p.tests) for p in heldout.problems) >= 15


def test_problems_are_small_and_named(train: Suite, heldout: Suite) -> None:
    for problem in train.problems + heldout.problems:
        assert problem.statement.startswith(f"# {problem.id} {problem.title}\n")
        assert 2 <= len(problem.tests) <= 10
        assert all(len(t.input) < 200 for t in problem.tests)


@pytest.mark.parametrize("part", ["train", "heldout"])
def test_reference_programs_pass_and_slips_fail(
    part: str, train: Suite, heldout: Suite, tmp_path: Path
) -> None:
    suite = {"train": train, "heldout": heldout}[part]
    variants = {"train": train_variants, "heldout": heldout_variants}[part]
    for problem in Random(part).sample(suite.problems, 12):
        family, index = variant_of(problem, suite)
        p = variants(family)[index]
        accept = accepts(family, p, tmp_path)

        slip = Random(problem.id).choice(family.slips())
        for program, right in ((family.program(p), True), (family.program(p, slip), False)):
            binary = compiled(program, tmp_path)
            passed = all(
                accept(output_of(binary, t.input), t.input, t.output) for t in problem.tests
            )
            assert passed == right, (problem.id, slip)
