"""Two programs side by side, line by line."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from os.path import commonprefix
from typing import NamedTuple

from evaluator.report.html.text import shortened, visible

_PROGRAM_CHARACTERS = 8_000
_PROGRAM_LINES = 250


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


def diff_programs(left: str | None, right: str | None) -> Iterator[DiffRow]:
    r"""Align two programs, or the beginnings of long ones, by their equal lines.

    Example:
        >>> rows = diff_programs("a;\nx = 1;\n", "a;\nx = 23;\n")
        >>> [(row.same, row.right.changed) for row in rows]
        [(True, ''), (False, '23')]
    """
    ours, theirs = _lines(left), _lines(right)
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        for i, j in zip_longest(range(i1, i2), range(j1, j2)):
            head = tail = 0
            if i is not None and j is not None:
                both = [ours[i], theirs[j]]
                head = len(commonprefix(both))
                tail = len(commonprefix([line[head:][::-1] for line in both]))
            shown = (_parted(lines, k, head, tail) for lines, k in ((ours, i), (theirs, j)))
            yield DiffRow(kind == "equal", *shown)


def _lines(program: str | None) -> list[str]:
    if program is None:
        return []
    shown = visible(shortened(program, _PROGRAM_CHARACTERS, _PROGRAM_LINES))
    return shown.rstrip("\n").split("\n")


def _parted(lines: Sequence[str], index: int | None, head: int, tail: int) -> CodeLine | None:
    if index is None:
        return None
    line, end = lines[index], len(lines[index]) - tail
    return CodeLine(index + 1, line[:head], line[head:end], line[end:])
