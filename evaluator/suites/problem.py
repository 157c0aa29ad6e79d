"""Types of a suite: a test case, a checker, a problem.

Texts are ``str``. Test data that is not UTF-8 is kept byte for byte by Python's
``surrogateescape`` error handler; :func:`to_bytes` gives the bytes back.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from evaluator.errors import SuiteError

CheckerKind = Literal["lines", "exact", "tokens", "float", "special"]

DEFAULT_TIME_LIMIT_MS = 1000
DEFAULT_MEMORY_LIMIT_KIB = 128 * 1024
DEFAULT_TOLERANCE = 1e-6


def to_text(data: bytes) -> str:
    """Decode test data; bytes that are not UTF-8 survive as lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """Give the bytes of a test-data text, as :func:`to_text` read them."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class TestCase:
    """One test: what the program reads and what it should print.

    Attributes:
        name: Unique in its problem.
        input: Standard input.
        output: The answer, every byte of it (leading spaces count).
        score: Relative points of this test.
        subtask: Id of the subtask it belongs to, or None.
        time_limit_ms: CPU milliseconds; None means the problem's limit.
        memory_limit_kib: KiB; None means the problem's limit.
        pretest: Whether it is one of the public tests.
    """

    __test__ = False  # not a test class, whatever pytest thinks of the name

    name: str
    input: str
    output: str
    score: float = 1.0
    subtask: int | None = None
    time_limit_ms: int | None = None
    memory_limit_kib: int | None = None
    pretest: bool = False


@dataclass(frozen=True)
class Checker:
    """How an output is held against the answer.

    Attributes:
        kind: ``lines`` (Luogu's rule), ``exact``, ``tokens``, ``float`` or ``special``.
        tolerance: For ``float``: largest absolute or relative error (1e-6 where not given).
        source: For ``special``: C++ source, run as ``checker input output answer``.

    Raises:
        SuiteError: If the fields do not fit the kind.
    """

    kind: CheckerKind = "lines"
    tolerance: float | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        """Check that the fields fit the kind."""
        kinds = get_args(CheckerKind)
        if self.kind not in kinds:
            raise SuiteError(f"checker kind is {self.kind!r}, allowed are {', '.join(kinds)}")
        if (self.kind == "special") != (self.source is not None):
            raise SuiteError("a checker has a source if, and only if, its kind is 'special'")
        if self.tolerance is None:
            return
        if self.kind != "float":
            raise SuiteError(f"only a 'float' checker has a tolerance, this one is {self.kind!r}")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise SuiteError(f"tolerance is {self.tolerance}, expected a finite number >= 0")


@dataclass(frozen=True)
class Problem:
    """One problem of a suite.

    Attributes:
        id: Unique in its suite.
        statement: The text a model is given.
        tests: At least one; a problem without tests would be passed by everything.
        time_limit_ms: CPU milliseconds of a test that names no own limit.
        memory_limit_kib: KiB of a test that names no own limit.
        checker: The comparison rule of all tests.
        title: For people.
        family: Name of the group of variants this problem belongs to.
        language: Language of the statement (``zh``, ``en``, ...).
        source: Where it comes from.
        prompt: A ready-made prompt, where the suite brings one.

    Raises:
        SuiteError: If there are no tests, a name stands twice, or a limit is not positive.
    """

    id: str
    statement: str
    tests: tuple[TestCase, ...]
    time_limit_ms: int = DEFAULT_TIME_LIMIT_MS
    memory_limit_kib: int = DEFAULT_MEMORY_LIMIT_KIB
    checker: Checker = field(default_factory=Checker)
    title: str = ""
    family: str | None = None
    language: str | None = None
    source: str | None = None
    prompt: str | None = None

    def __post_init__(self) -> None:
        """Check what every judgement relies on."""
        if not self.id:
            raise SuiteError("a problem has an empty id")
        if not self.tests:
            raise SuiteError(f"problem {self.id!r} has no tests: every program would pass it")
        names = [test.name for test in self.tests]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise SuiteError(f"problem {self.id!r} has tests of the same name: {twice[:5]}")
        limits = [("problem", self.time_limit_ms, self.memory_limit_kib)]
        limits += [(f"test {t.name!r}", *self.limits(t)) for t in self.tests]
        for what, time_ms, memory_kib in limits:
            if time_ms <= 0 or memory_kib <= 0:
                raise SuiteError(
                    f"problem {self.id!r}, {what}: limits must be positive, "
                    f"found {time_ms} ms and {memory_kib} KiB"
                )
        for test in self.tests:
            if not (math.isfinite(test.score) and test.score >= 0):
                raise SuiteError(f"problem {self.id!r}, test {test.name!r}: score {test.score}")

    def limits(self, test: TestCase) -> tuple[int, int]:
        """Give the limits of a test of this problem: (CPU milliseconds, KiB)."""
        time_ms = self.time_limit_ms if test.time_limit_ms is None else test.time_limit_ms
        memory = self.memory_limit_kib if test.memory_limit_kib is None else test.memory_limit_kib
        return time_ms, memory
