"""What an importer is, and the drafts it makes before it is known what can be judged."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from evaluator.suites.importers.rows import Row
from evaluator.suites.limits import kibibytes, milliseconds
from evaluator.suites.problem import Checker, TestCase

SkipKind = Literal[
    "answer-only",
    "call-based",
    "duplicate",
    "elided",
    "file-io",
    "interactive",
    "no-output",
    "no-tests",
    "prose",
    "special-judge",
    "unreadable",
]
NoteKind = Literal["assumed", "unused"]
_HEADING = re.compile(
    r"^#[ \t]+(?P<id>(?:[PBTU]|SP|UVA)\d+|CF\d+[A-Z]\d*|AT_?\w+)\b[ \t]*(?P<title>.*)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Reason:
    """Why a problem or a test cannot be judged: a word to count by, and a text for people."""

    kind: SkipKind
    detail: str


@dataclass(frozen=True)
class Skipped:
    """A problem of a source, or one test of it, that was left out.

    ``where`` is its place in the source: ``line 3``, ``row 3`` or a file's name.
    """

    where: str
    id: str
    kind: SkipKind
    reason: str
    test: str | None = None


@dataclass(frozen=True)
class Note:
    """What people should know about a problem that was kept.

    ``unused`` is a file that means nothing here, ``assumed`` a unit or a comparison.
    """

    where: str
    id: str
    kind: NoteKind
    detail: str


@dataclass(frozen=True)
class Draft:
    """One problem as its source has it.

    Attributes:
        id: May stand twice in a source.
        prompt: The source's whole text, where that is more than the statement.
        time_limit_ms: CPU milliseconds; None means the importer's default, as for the memory.
        from_statement: Whether the tests are samples that were cut out of a statement.
        refusal: Why no test of it can be used, where that is known already.
        left_out: Tests that could not be used: (name, reason).
    """

    where: str
    id: str
    statement: str
    tests: tuple[TestCase, ...] = ()
    title: str = ""
    prompt: str | None = None
    time_limit_ms: int | None = None
    memory_limit_kib: int | None = None
    checker: Checker | None = None
    from_statement: bool = False
    refusal: Reason | None = None
    left_out: tuple[tuple[str, Reason], ...] = ()
    notes: tuple[tuple[NoteKind, str], ...] = ()


@dataclass(frozen=True)
class Importer:
    """A form of rows.

    Attributes:
        name: As ``--form`` and ``suite.json`` have it.
        fields: A row with any of these fields is taken for one of this form.
        read_row: Reads one row; a ``SuiteError`` lists it as unreadable, and the next one follows.
        has_tests: Whether rows have tests in fields of their own, or only in a statement.
    """

    name: str
    fields: frozenset[str]
    read_row: Callable[[Row], Draft]
    has_tests: bool = True


def read_heading(prompt: str) -> tuple[str | None, dict[str, Any]]:
    """Split what a model is given at its statement's heading, ``# P1002 [NOIP 2002] ...``.

    Gives the id, None without such a heading, and fields of a draft: the statement from its heading
    on, or all of it; the title; the whole prompt where more stands before the heading.
    """
    match = _HEADING.search(prompt)
    if match is None:
        return None, {"statement": prompt}
    statement, before = prompt[match.start() :], prompt[: match.start()].strip()
    title, whole = match["title"].strip(), prompt if before else None
    return match["id"], {"statement": statement, "title": title, "prompt": whole}


def limits_of(time: Any, memory: Any, memory_unit: str = "") -> dict[str, Any]:
    """Read a row's limits into a draft's fields; a ValueError if one is none that a contest has."""
    read = milliseconds(time), kibibytes(memory, memory_unit)
    notes = tuple(
        ("assumed", f"the {what} limit, {found!r:.30}, has no unit; taken as {limit.assumed}")
        for what, found, limit in zip(("time", "memory"), (time, memory), read, strict=True)
        if limit is not None and limit.assumed
    )
    time_ms, memory_kib = (limit and limit.value for limit in read)
    return {"time_limit_ms": time_ms, "memory_limit_kib": memory_kib, "notes": notes}
