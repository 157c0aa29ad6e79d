"""Types of a suite: a test case, a checker, a problem.

Texts are ``str``. Test data that is not UTF-8 is kept byte for byte by Python's
``surrogateescape`` error handler; :func:`to_bytes` gives the bytes back.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict, StrictBool, StrictFloat, StrictInt

from evaluator.checked import Text
from evaluator.errors import SuiteError
from tinylora.models.chat import why_no_text

CheckerKind = Literal["lines", "exact", "tokens", "caseless", "float", "special"]
ErrorKind = Literal["absolute", "relative"]

DEFAULT_TIME_LIMIT_MS = 1000
DEFAULT_MEMORY_LIMIT_KIB = 128 * 1024
DEFAULT_TOLERANCE = 1e-6
# what no problem is meant to have: beyond it stands a mistake, or an attack on the judge
_MAX_MS = 3_600_000
_MIN_KIB, _MAX_KIB = 1 << 10, 1 << 30
_MAX_NUMBER = 10**9  # scores, subtasks, tolerances
# a whole number stays one, as the digest of a suite spells it
_Number = StrictInt | StrictFloat
_KNOWN_FIELDS = ConfigDict(extra="forbid")


def to_text(data: bytes) -> str:
    """Decode test data; bytes that are not UTF-8 survive as lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """Give the bytes of a test-data text, as :func:`to_text` read them."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class TestCase:
    """One test: what the program reads and what it should print.

    ``score`` is relative; a limit of None means the problem's limit.
    """

    __test__ = False  # not a test class, whatever pytest thinks of the name
    __pydantic_config__ = _KNOWN_FIELDS

    name: Text
    input: Text
    output: Text
    score: _Number = 1.0
    subtask: StrictInt | None = None
    time_limit_ms: StrictInt | None = None
    memory_limit_kib: StrictInt | None = None
    pretest: StrictBool = False


@dataclass(frozen=True)
class Checker:
    """How an output is held against the answer.

    Attributes:
        kind: ``lines`` is Luogu's rule, ``caseless`` compares tokens in any letter case.
        tolerance: For ``float``: largest error (1e-6 where not given).
        source: For ``special``: C++ source, run as ``checker input output answer``.
        error: For ``float``: the one error that counts; None means that either may be small.
    """

    __pydantic_config__ = _KNOWN_FIELDS

    kind: CheckerKind = "lines"
    tolerance: _Number | None = None
    source: Text | None = None
    error: ErrorKind | None = None

    def __post_init__(self) -> None:
        if (self.kind == "special") != (self.source is not None):
            raise SuiteError("a checker has a source if, and only if, its kind is 'special'")
        if self.kind != "float" and (self.tolerance, self.error) != (None, None):
            raise SuiteError(f"only a 'float' checker has a tolerance, this one is {self.kind!r}")
        if self.tolerance is not None and not 0 <= self.tolerance <= _MAX_NUMBER:
            raise SuiteError(f"tolerance is {self.tolerance!r:.30}, expected 0 to {_MAX_NUMBER}")


@dataclass(frozen=True)
class Problem:
    """One problem of a suite; a SuiteError if a judgement could not rely on it.

    Attributes:
        id: Unique in its suite.
        time_limit_ms: CPU milliseconds of a test that names no own limit.
        family: Name of the group of variants this problem belongs to.
        language: Language of the statement (``zh``, ``en``, ...).
        source: Where it comes from.
        prompt: A ready-made prompt, where the suite brings one.
    """

    __pydantic_config__ = _KNOWN_FIELDS

    id: Text
    statement: Text
    tests: tuple[TestCase, ...]
    time_limit_ms: StrictInt = DEFAULT_TIME_LIMIT_MS
    memory_limit_kib: StrictInt = DEFAULT_MEMORY_LIMIT_KIB
    checker: Checker = field(default_factory=Checker)
    title: Text = ""
    family: Text | None = None
    language: Text | None = None
    source: Text | None = None
    prompt: Text | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise SuiteError("a problem has an empty id")
        if not self.tests:
            raise self._error("no tests, which every program would pass")
        twice = [name for name, times in Counter(t.name for t in self.tests).items() if times > 1]
        if twice:
            raise self._error(f"tests of the same name: {sorted(twice)[:5]}")
        self._check_bytes()
        limits = [("problem", self.time_limit_ms, self.memory_limit_kib)]
        limits += [(f"test {test.name!r:.60}", *self.limits(test)) for test in self.tests]
        for what, time_ms, memory_kib in limits:
            if not (1 <= time_ms <= _MAX_MS and _MIN_KIB <= memory_kib <= _MAX_KIB):
                possible = f"1 to {_MAX_MS} ms and {_MIN_KIB} to {_MAX_KIB} KiB"
                found = f"{time_ms!r:.30} ms and {memory_kib!r:.30} KiB"
                raise self._error(f"{what}: limits are {found}; possible are {possible}")
        for test in self.tests:
            if not (0 <= test.score <= _MAX_NUMBER and abs(test.subtask or 0) <= _MAX_NUMBER):
                found = f"score {test.score!r:.30}, subtask {test.subtask!r:.30}"
                wanted = f"expected are numbers up to {_MAX_NUMBER}"
                raise self._error(f"test {test.name!r:.60}: {found}; {wanted}")

    def why_no_text(self) -> str:
        """Say which of the texts holds half of a character, which JSON can spell; else empty."""
        for name in ("id", "family", "language", "title", "statement", "prompt"):
            if reason := why_no_text(getattr(self, name) or ""):
                return f"its {name} {reason}"
        return ""

    def _check_bytes(self) -> None:
        """Refuse test data without bytes; those of other encodings come as ``surrogateescape``."""
        data = (text for test in self.tests for text in (test.input, test.output))
        for text in (*data, self.checker.source or ""):
            try:
                to_bytes(text)
            except UnicodeEncodeError as error:
                place = error.object[max(0, error.start - 20) : error.start + 1]
                half = f"test data has no bytes in UTF-8 (half of a character: {place!r})"
                raise self._error(half) from error

    def _error(self, what: str) -> SuiteError:
        return SuiteError(f"problem {self.id!r:.60}: {what}")

    def limits(self, test: TestCase) -> tuple[int, int]:
        """Give the limits of a test of this problem: (CPU milliseconds, KiB)."""
        time_ms = self.time_limit_ms if test.time_limit_ms is None else test.time_limit_ms
        memory = self.memory_limit_kib if test.memory_limit_kib is None else test.memory_limit_kib
        return time_ms, memory
