"""On which problems the arms disagree, and what there is to see of each of them.

Arms disagree on a problem where they pass different samples of it. Every arm is held against one:
the reference, or the first arm of a run without one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from evaluator.judging.extract import extract_code
from evaluator.report.html.diff import DiffRow, diff_programs
from evaluator.report.html.sources import ShownProblem
from evaluator.report.html.statement import statement_html
from evaluator.report.html.text import shortened
from evaluator.report.summary import RunSummary
from evaluator.store.records import GenerationRecord, Key, TestRecord, VerdictRecord
from evaluator.store.run_directory import ProblemFacts

_MESSAGE_CHARACTERS = 2_000


@dataclass(frozen=True)
class Cell:
    """One arm on one problem.

    Attributes:
        text: The verdict, or passed samples of all.
        css: Class of the verdict; ``mixed`` for samples of several verdicts.
        flip: ``gained``, ``lost`` or ``both`` against the reference; empty where nothing flipped.
        hint: For the pointer.
    """

    text: str
    css: str
    flip: str
    hint: str


@dataclass(frozen=True)
class FlipRow:
    """One problem in the matrix; ``cells`` in the order of the arms."""

    number: int
    problem: ProblemFacts
    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class FlipMatrix:
    """All problems that count, by how the arms disagree on them.

    Attributes:
        against: The arm that the others are held against.
        arms: Names, in order.
        samples: Of each problem.
        flipped: Problems on which an arm other than the control disagrees.
        control: Problems on which the control alone disagrees.
        agreed: The rest.
    """

    against: str
    arms: tuple[str, ...]
    samples: int
    flipped: tuple[FlipRow, ...]
    control: tuple[FlipRow, ...]
    agreed: tuple[FlipRow, ...]


@dataclass(frozen=True)
class Side:
    """One program and what became of it."""

    arms: tuple[str, ...]
    verdict: str
    score: float
    has_program: bool
    message: str


@dataclass(frozen=True)
class TestSide:
    """One program on one test."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    verdict: str
    detail: str
    time_ms: float | None


@dataclass(frozen=True)
class DifferingTest:
    """The first test that one program passes and the other does not.

    ``input`` and ``answer`` are None where the run has not kept them.
    """

    name: str
    input: str | None
    answer: str | None
    left: TestSide
    right: TestSide


@dataclass(frozen=True)
class Pair:
    """The reference's program beside another one, on the first sample where they disagree."""

    sample: int
    left: Side
    right: Side
    rows: tuple[DiffRow, ...]
    test: DifferingTest | None


@dataclass(frozen=True)
class FlipDetail:
    """Everything about one problem on which arms disagree."""

    row: FlipRow
    statement: Markup | None
    pairs: tuple[Pair, ...]


def flip_matrix(
    summary: RunSummary,
    verdicts: Mapping[Key, VerdictRecord],
    problems: Mapping[str, ShownProblem],
) -> FlipMatrix:
    """Sort the problems that count by how the arms disagree on them."""
    against = summary.reference or summary.arms[0].facts.name
    names = tuple(arm.facts.name for arm in summary.arms)
    groups: dict[str, list[FlipRow]] = {"flipped": [], "control": [], "agreed": []}
    for number, problem in enumerate(summary.problems):
        title = problems[problem.id].title if problem.id in problems else ""
        records = {
            arm: [verdicts[arm, problem.id, s] for s in range(summary.facts.samples)]
            for arm in names
        }
        cells = tuple(_cell(arm, records[arm], records[against]) for arm in names)
        disagreeing = {arm for arm, cell in zip(names, cells, strict=True) if cell.flip}
        others = disagreeing - {summary.control}
        group = "flipped" if others else "control" if disagreeing else "agreed"
        groups[group].append(FlipRow(number, problem, title, cells))
    # Problems on which many arms flip first: among the flips of one poor arm, those of a good one
    # would not be found.
    groups["flipped"].sort(key=lambda row: -sum(bool(cell.flip) for cell in row.cells))
    samples = summary.facts.samples
    return FlipMatrix(
        against, names, samples, **{name: tuple(rows) for name, rows in groups.items()}
    )


def flip_details(
    matrix: FlipMatrix,
    verdicts: Mapping[Key, VerdictRecord],
    generations: Mapping[Key, GenerationRecord],
    problems: Mapping[str, ShownProblem],
) -> Iterator[FlipDetail]:
    """What there is to see of each problem on which arms disagree, the most telling ones first."""
    for row in (*matrix.flipped, *matrix.control):
        shown = problems.get(row.problem.id)
        pairs = tuple(_pairs(matrix, row, verdicts, generations, shown))
        yield FlipDetail(row, statement_html(shown.statement) if shown else None, pairs)


def _cell(arm: str, own: list[VerdictRecord], reference: list[VerdictRecord]) -> Cell:
    passed = [record.verdict == "AC" for record in own]
    wanted = [record.verdict == "AC" for record in reference]
    gained = any(a > b for a, b in zip(passed, wanted, strict=True))
    lost = any(a < b for a, b in zip(passed, wanted, strict=True))
    flip = "both" if gained and lost else "gained" if gained else "lost" if lost else ""
    kinds = {record.verdict for record in own}
    text = own[0].verdict if len(own) == 1 else f"{sum(passed)}/{len(own)}"
    verdict_words = " ".join(record.verdict for record in own[:16])
    css = f"v{own[0].verdict}" if len(kinds) == 1 else "mixed"
    return Cell(text, css, flip, f"{arm}: {verdict_words}{f', {flip}' if flip else ''}")


def _pairs(
    matrix: FlipMatrix,
    row: FlipRow,
    verdicts: Mapping[Key, VerdictRecord],
    generations: Mapping[Key, GenerationRecord],
    shown: ShownProblem | None,
) -> Iterator[Pair]:
    """One pair for each different program that disagrees; arms with equal programs share it."""
    problem = row.problem.id
    together: dict[tuple[int, str | None, str], list[str]] = {}
    for arm, cell in zip(matrix.arms, row.cells, strict=True):
        if cell.flip:
            sample = next(
                s
                for s in range(matrix.samples)
                if (verdicts[arm, problem, s].verdict == "AC")
                != (verdicts[matrix.against, problem, s].verdict == "AC")
            )
            record = verdicts[arm, problem, sample]
            together.setdefault((sample, record.code_sha256, record.verdict), []).append(arm)
    for (sample, _, _), arms in together.items():
        left, right = verdicts[matrix.against, problem, sample], verdicts[arms[0], problem, sample]
        programs = [_program(generations.get(record.key)) for record in (left, right)]
        yield Pair(
            sample=sample,
            left=_side((matrix.against,), left),
            right=_side(tuple(arms), right),
            rows=diff_programs(programs[0], programs[1]),
            test=_differing_test(left, right, shown),
        )


def _program(record: GenerationRecord | None) -> str | None:
    return None if record is None else extract_code(record.text).code


def _side(arms: tuple[str, ...], record: VerdictRecord) -> Side:
    message = record.compile_message if record.verdict == "CE" else ""
    message = "\n".join(part for part in (record.reason, record.detail, message) if part)
    return Side(
        arms=arms,
        verdict=record.verdict,
        score=record.score,
        has_program=record.code_sha256 is not None,
        message=shortened(message, _MESSAGE_CHARACTERS),
    )


def _differing_test(
    left: VerdictRecord, right: VerdictRecord, shown: ShownProblem | None
) -> DifferingTest | None:
    ours, theirs = ({test.name: test for test in record.tests} for record in (left, right))
    for name in ours if len(ours) >= len(theirs) else theirs:
        a, b = ours.get(name), theirs.get(name)
        if (a is not None and a.verdict == "AC") != (b is not None and b.verdict == "AC"):
            test = shown.tests.get(name) if shown else None
            return DifferingTest(
                name=name[:80],
                input=test.input if test else None,
                answer=test.output if test else None,
                left=_test_side(a),
                right=_test_side(b),
            )
    return None


def _test_side(test: TestRecord | None) -> TestSide:
    if test is None:
        return TestSide("not run", "", None)
    return TestSide(test.verdict, shortened(test.detail, _MESSAGE_CHARACTERS), test.time_ms)
