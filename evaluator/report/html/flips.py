"""On which problems the arms disagree, and what there is to see of each of them.

Arms disagree on a problem where they pass different samples of it. Every arm is held against one:
the reference, or the first arm of a run without one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evaluator.judging.extract import extract_code
from evaluator.report.html.diff import diff_programs
from evaluator.report.html.statement import statement_html
from evaluator.report.summary import RunSummary
from evaluator.store.records import GenerationRecord, Key, TestRecord, VerdictRecord
from evaluator.store.run_directory import ProblemFacts
from evaluator.store.snapshot import ShownProblem


class Cell(NamedTuple):
    """One arm on one problem: the verdict, or passed samples of all.

    ``flip`` is ``gained``, ``lost``, ``both`` or empty; ``css`` a verdict's class, or ``mixed``.
    """

    text: str
    css: str
    flip: str


class FlipRow(NamedTuple):
    """One problem in the matrix; ``cells`` in the order of the arms."""

    number: int
    problem: ProblemFacts
    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class FlipMatrix:
    """All problems that count, by how the arms disagree on them.

    ``flipped``: an arm other than the control disagrees; ``control``: it alone does. Arms are held
    ``against`` one of them.
    """

    against: str
    arms: tuple[str, ...]
    samples: int
    flipped: tuple[FlipRow, ...]
    control: tuple[FlipRow, ...]
    agreed: tuple[FlipRow, ...]


def flip_matrix(
    summary: RunSummary,
    verdicts: Mapping[Key, VerdictRecord],
    problems: Mapping[str, ShownProblem],
) -> FlipMatrix:
    """Sort the problems that count by how the arms disagree on them."""
    against = summary.reference or summary.arms[0].facts.name
    names = tuple(arm.facts.name for arm in summary.arms)
    samples = summary.facts.samples
    groups: dict[str, list[FlipRow]] = {"flipped": [], "control": [], "agreed": []}
    for number, problem in enumerate(summary.problems):
        title = problems[problem.id].title if problem.id in problems else ""
        records = {arm: [verdicts[arm, problem.id, s] for s in range(samples)] for arm in names}
        cells = tuple(_cell(records[arm], records[against]) for arm in names)
        disagreeing = {arm for arm, cell in zip(names, cells, strict=True) if cell.flip}
        others = disagreeing - {summary.control}
        group = "flipped" if others else "control" if disagreeing else "agreed"
        groups[group].append(FlipRow(number, problem, title, cells))
    # Problems on which many arms flip first: among the flips of one poor arm, those of a good one
    # would not be found.
    groups["flipped"].sort(key=lambda row: -sum(bool(cell.flip) for cell in row.cells))
    return FlipMatrix(against, names, samples, **{name: tuple(g) for name, g in groups.items()})


def flip_details(
    matrix: FlipMatrix,
    verdicts: Mapping[Key, VerdictRecord],
    generations: Mapping[Key, GenerationRecord],
    problems: Mapping[str, ShownProblem],
) -> Iterator[dict[str, Any]]:
    """What ``problem.html`` shows of each problem on which arms disagree, telling ones first."""
    for row in (*matrix.flipped, *matrix.control):
        shown = problems.get(row.problem.id)
        yield {
            "row": row,
            "statement": statement_html(shown.statement) if shown else None,
            "pairs": tuple(_pairs(matrix, row, verdicts, generations, shown)),
        }


def _cell(own: Sequence[VerdictRecord], reference: Sequence[VerdictRecord]) -> Cell:
    passed = [record.verdict == "AC" for record in own]
    wanted = [record.verdict == "AC" for record in reference]
    gained = any(a > b for a, b in zip(passed, wanted, strict=True))
    lost = any(a < b for a, b in zip(passed, wanted, strict=True))
    flip = "both" if gained and lost else "gained" if gained else "lost" if lost else ""
    text = own[0].verdict if len(own) == 1 else f"{sum(passed)}/{len(own)}"
    alike = len({record.verdict for record in own}) == 1
    return Cell(text, f"v{own[0].verdict}" if alike else "mixed", flip)


def _pairs(
    matrix: FlipMatrix,
    row: FlipRow,
    verdicts: Mapping[Key, VerdictRecord],
    generations: Mapping[Key, GenerationRecord],
    shown: ShownProblem | None,
) -> Iterator[dict[str, Any]]:
    """For each different program that disagrees, its first such sample beside the reference's."""
    problem, against = row.problem.id, matrix.against
    together: dict[tuple[int, str | None, str], list[VerdictRecord]] = {}
    for arm, cell in zip(matrix.arms, row.cells, strict=True):
        if cell.flip:
            right = next(
                verdicts[arm, problem, sample]
                for sample in range(matrix.samples)
                if _disagree(verdicts[against, problem, sample], verdicts[arm, problem, sample])
            )
            key = (right.sample, right.code_sha256, right.verdict)
            together.setdefault(key, []).append(right)
    for rights in together.values():
        right = rights[0]
        left = verdicts[against, problem, right.sample]
        yield {
            "sample": right.sample,
            "arms": [record.arm for record in rights],
            "left": left,
            "right": right,
            "rows": diff_programs(_program(left, generations), _program(right, generations)),
            "test": _differing_test(left, right, shown),
        }


def _disagree(*two: VerdictRecord | TestRecord | None) -> bool:
    return len({one is not None and one.verdict == "AC" for one in two}) == 2


def _program(verdict: VerdictRecord, generations: Mapping[Key, GenerationRecord]) -> str | None:
    record = generations.get(verdict.key)
    return None if record is None else extract_code(record.text).code


def _differing_test(
    left: VerdictRecord, right: VerdictRecord, shown: ShownProblem | None
) -> dict[str, Any] | None:
    """The first test that one program passes and the other does not; a side may lack it."""
    ours, theirs = ({test.name: test for test in record.tests} for record in (left, right))
    for name in ours if len(ours) >= len(theirs) else theirs:
        if _disagree(ours.get(name), theirs.get(name)):
            test = shown.tests.get(name) if shown else None
            return {
                "name": name, "left": ours.get(name), "right": theirs.get(name), "shown": test
            }  # fmt: skip
    return None
