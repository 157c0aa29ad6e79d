"""Two programs side by side, line by line."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from os.path import commonprefix
from typing import NamedTuple

from evaluator.report.html.text import shortened, visible

PROGRAM_CHARACTERS = 8_000
PROGRAM_LINES = 250


class CodeLine(NamedTuple):
    """A line: its number, and its text as ``before + changed + after``."""

    number: int
    before: str
    changed: str
    after: str


class DiffRow(NamedTuple):
    """A row of the two columns; a side that has no line here is None."""

    same: bool
    left: CodeLine | None
    right: CodeLine | None


def diff_programs(left: str | None, right: str | None) -> tuple[DiffRow, ...]:
    r"""Align two programs, or the beginnings of long ones, by their equal lines.

    Example:
        >>> rows = diff_programs("a;\nx = 1;\n", "a;\nx = 23;\n")
        >>> [(row.same, row.right.changed) for row in rows]
        [(True, ''), (False, '23')]
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
        for i, j in zip_longest(range(i1, i2), range(j1, j2)):
            both = [lines[k] for lines, k in ((left, i), (right, j)) if k is not None]
            head = tail = 0
            if len(both) == 2:
                head = len(commonprefix(both))
                tail = len(commonprefix([line[head:][::-1] for line in both]))
            yield DiffRow(
                kind == "equal",
                None if i is None else _parted(i, left[i], head, tail),
                None if j is None else _parted(j, right[j], head, tail),
            )


def _parted(index: int, line: str, head: int, tail: int) -> CodeLine:
    end = len(line) - tail
    return CodeLine(index + 1, line[:head], line[head:end], line[end:])
