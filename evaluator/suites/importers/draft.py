"""What an importer makes of one row or archive, before it is known whether that can be judged."""

from dataclasses import dataclass
from typing import Literal

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
