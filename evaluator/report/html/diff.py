"""Two programs side by side, line by line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal

from evaluator.report.html.text import shortened, visible

PROGRAM_CHARACTERS = 8_000
PROGRAM_LINES = 250


@dataclass(frozen=True)
class CodeLine:
    """A line of one side: its number, and its text around the part that differs.

    ``before + changed + after`` is the line.
    """

    number: int
    before: str
    changed: str = ""
    after: str = ""


@dataclass(frozen=True)
class DiffRow:
    """A row of the two columns; a side that has no line here is None."""

    kind: Literal["same", "differs"]
    left: CodeLine | None
    right: CodeLine | None


def diff_programs(left: str | None, right: str | None) -> tuple[DiffRow, ...]:
    r"""Align two programs by their equal lines.

    Args:
        left: A program, or None.
        right: Likewise.

    Example:
        >>> rows = diff_programs("a;\nx = 1;\n", "a;\nx = 23;\n")
        >>> [(row.kind, row.right.changed) for row in rows]
        [('same', ''), ('differs', '23')]
    """
    return tuple(_rows(_lines(left), _lines(right)))


def _lines(program: str | None) -> list[str]:
    if program is None:
        return []
    shown = visible(shortened(program, PROGRAM_CHARACTERS, PROGRAM_LINES))
    return shown.rstrip("\n").split("\n")


def _rows(left: Sequence[str], right: Sequence[str]) -> Iterator[DiffRow]:
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if kind == "equal":
            for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                yield DiffRow("same", CodeLine(i + 1, left[i]), CodeLine(j + 1, right[j]))
            continue
        for a, b in zip_longest(range(i1, i2), range(j1, j2)):
            yield _differing(left, a, right, b)


def _differing(left: Sequence[str], a: int | None, right: Sequence[str], b: int | None) -> DiffRow:
    """Two lines with what they share at both ends taken off, or a line of one side alone."""
    if a is None or b is None:
        return DiffRow(
            "differs",
            None if a is None else CodeLine(a + 1, "", left[a]),
            None if b is None else CodeLine(b + 1, "", right[b]),
        )
    one, two = left[a], right[b]
    head = _common(one, two)
    tail = _common(one[head:][::-1], two[head:][::-1])
    return DiffRow("differs", _parted(a, one, head, tail), _parted(b, two, head, tail))


def _parted(index: int, line: str, head: int, tail: int) -> CodeLine:
    end = len(line) - tail
    return CodeLine(index + 1, line[:head], line[head:end], line[end:])


def _common(one: str, two: str) -> int:
    """Length of the longest common beginning."""
    pairs = zip(one, two, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))
