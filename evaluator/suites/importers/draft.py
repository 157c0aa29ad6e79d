"""What an importer makes of one row or archive, before it is known whether that can be judged."""

from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True)
class Reason:
    """Why a problem or a test cannot be judged.

    Attributes:
        kind: One word to count by.
        detail: For people.
    """

    kind: SkipKind
    detail: str


@dataclass(frozen=True)
class Skipped:
    """A problem of a source, or one test of it, that was left out.

    Attributes:
        where: Its place in the source: ``line 3``, ``row 3`` or a file's name.
        id: The problem's id as far as it is known.
        kind: One word to count by.
        reason: For people.
        test: Name of the test where the problem itself was kept.
    """

    where: str
    id: str
    kind: SkipKind
    reason: str
    test: str | None = None


@dataclass(frozen=True)
class Note:
    """What people should know about a problem that was kept.

    Attributes:
        where: Its place in the source.
        id: The problem's id.
        kind: ``unused`` for a file that means nothing here, ``assumed`` for what the source left
            open: a unit, or the comparison that a statement asks for.
        detail: For people.
    """

    where: str
    id: str
    kind: NoteKind
    detail: str


@dataclass(frozen=True)
class Draft:
    """One problem as its source has it.

    Attributes:
        where: Its place in the source, for people.
        id: Its id; may stand twice in a source.
        statement: From its heading on.
        tests: Those that could be read.
        title: For people.
        prompt: The source's whole text, where that is more than the statement.
        time_limit_ms: CPU milliseconds; None means the importer's default.
        memory_limit_kib: KiB; None means the importer's default.
        checker: None means that the source brings none: Luogu's usual comparison holds.
        from_statement: Whether the tests are samples that were cut out of a statement, written
            for people: they may be elided, annotated or a description.
        refusal: Why no test of it can be used, where that is known already.
        left_out: Tests that could not be used: (name, reason).
        notes: What people should know: (kind, detail).
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


def limits_of(time: Any, memory: Any, memory_unit: str = "") -> dict[str, Any]:
    """Read the limits of a row into a draft's fields, with notes on units that were assumed.

    Args:
        time: As the row has it.
        memory: As the row has it.
        memory_unit: Of a plain number, where the form says it.

    Raises:
        ValueError: If one of them is no limit that a contest has.
    """
    read = milliseconds(time), kibibytes(memory, memory_unit)
    values = [None if limit is None else limit.value for limit in read]
    notes = tuple(
        ("assumed", f"the {what} limit, {found!r:.30}, has no unit; taken as {limit.assumed}")
        for what, found, limit in zip(("time", "memory"), (time, memory), read, strict=True)
        if limit is not None and limit.assumed
    )
    return {"time_limit_ms": values[0], "memory_limit_kib": values[1], "notes": notes}
