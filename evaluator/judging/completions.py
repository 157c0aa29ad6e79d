"""Reading a file of completions: ``{"problem": id, "sample": int, "completion": str}`` a row.

A row that cannot be judged is listed with its place and reason, and the others are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.errors import CompletionsError, SuiteError
from evaluator.suites.importers.rows import Row, read_rows
from evaluator.suites.suite import Suite

Key = tuple[str, int]
_LARGEST_SAMPLE = 2**63 - 1  # what tables can hold


@dataclass(frozen=True)
class NotJudged:
    """A row that is no completion of the suite: its place in the file, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Completions:
    """What a file holds: (problem, sample) -> text, in its order, and the other rows."""

    texts: Mapping[Key, str]
    not_judged: tuple[NotJudged, ...]


def read_completions(path: Path, suite: Suite) -> Completions:
    """Read a file; a CompletionsError if it cannot be read, or no row of it can be judged."""
    known = suite.by_id().keys()
    texts: dict[Key, str] = {}
    bad: list[NotJudged] = []
    try:
        for row in read_rows(path):
            try:
                key, text = _completion(row)
                if key[0] not in known:
                    raise CompletionsError(_not_there(key[0], suite))
                if texts.setdefault(key, text) != text:
                    twice = f"problem {key[0]!r:.80}, sample {key[1]} stands twice"
                    raise CompletionsError(f"{twice}; the first counts")
            except CompletionsError as error:
                bad.append(NotJudged(row.where, str(error)))
    except SuiteError as error:
        raise CompletionsError(str(error)) from error
    if not texts:
        first = f": {path}, {bad[0].where}: {bad[0].reason}" if bad else " in it"
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise CompletionsError(f"{path}: no completions{first}{more}")
    return Completions(texts, tuple(bad))


def _completion(row: Row) -> tuple[Key, str]:
    """Check one row; a CompletionsError says what is wrong with it, without its place."""
    if row.fault:
        raise CompletionsError(row.fault)
    fields: dict[str, Any] = row.values
    problem, sample, text = fields.get("problem"), fields.get("sample", 0), fields.get("completion")
    if isinstance(problem, bool) or not isinstance(problem, str | int):
        raise CompletionsError(f"'problem' is {problem!r:.80}, expected the id of a problem")
    if isinstance(sample, bool) or not isinstance(sample, int) or abs(sample) > _LARGEST_SAMPLE:
        raise CompletionsError(f"'sample' is {sample!r:.80}, expected a whole number of 64 bits")
    if not isinstance(text, str):
        found = type(text).__name__
        raise CompletionsError(f"'completion' is of type {found}, expected a string")
    return (str(problem), sample), text


def _not_there(problem: str, suite: Suite) -> str:
    """Why a problem cannot be judged: the suite left it out, or does not have it."""
    left_out = (s for s in suite.skipped if s.id == problem and s.test is None)
    reason = next((f"; left out, {s.where}: {s.reason}" for s in left_out), "")
    has = f"{len(suite.problems)} problems, such as {', '.join(p.id for p in suite.problems[:3])}"
    return f"problem {problem!r:.80} is not in suite {suite.name!r}{reason} ({has})"
