"""From drafts to problems: doubles, what cannot be judged, unique ids, default limits."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evaluator.errors import SuiteError
from evaluator.suites.importers.comparisons import asked_comparison
from evaluator.suites.importers.draft import Draft, Note, Reason, Skipped
from evaluator.suites.importers.headings import language_of
from evaluator.suites.importers.screening import why_no_test, why_not_judgeable
from evaluator.suites.problem import (
    DEFAULT_MEMORY_LIMIT_KIB,
    DEFAULT_TIME_LIMIT_MS,
    Checker,
    Problem,
    TestCase,
)


@dataclass(frozen=True)
class DefaultLimits:
    """Limits of a problem whose source gives none."""

    time_ms: int = DEFAULT_TIME_LIMIT_MS
    memory_kib: int = DEFAULT_MEMORY_LIMIT_KIB


def drafts_to_problems(
    drafts: Iterable[Draft | Note], source: str, limits: DefaultLimits
) -> Iterator[Problem | Skipped | Note]:
    """Yield the problems that can be judged, what was left out, and what should be known.

    The first problem of an id keeps it. A later one with the same statement and tests is left out
    as a duplicate; a later one that differs is kept as ``<id>-2``, ``<id>-3`` and so on.
    """
    seen: dict[bytes, str] = {}
    ids: dict[str, int] = {}
    for draft in drafts:
        if isinstance(draft, Note):
            yield draft
            continue
        if (first := seen.setdefault(_digest(draft), draft.where)) != draft.where:
            yield Skipped(draft.where, draft.id, "duplicate", f"the same as {first}")
            continue
        tests, left_out = _usable(draft)
        asked = None if _has_special_judge(draft) else asked_comparison(draft.statement, tests)
        reason = _why_not(draft, tests, left_out, asked)
        if reason is not None:
            yield Skipped(draft.where, draft.id, reason.kind, reason.detail)
            continue
        problem_id = _unique(draft.id, ids)
        checker = asked if isinstance(asked, Checker) else draft.checker or Checker()
        try:
            problem = Problem(
                id=problem_id,
                statement=draft.statement,
                tests=tests,
                time_limit_ms=draft.time_limit_ms or limits.time_ms,
                memory_limit_kib=draft.memory_limit_kib or limits.memory_kib,
                checker=checker,
                title=draft.title,
                language=language_of(draft.statement),
                source=f"{source}, {draft.where}",
                prompt=draft.prompt,
            )
            broken = problem.why_no_text()
        except SuiteError as error:  # e.g. a limit out of all reason
            broken = str(error)
        if broken:
            yield Skipped(draft.where, problem_id, "unreadable", broken)
            continue
        yield problem
        for name, why in left_out:
            yield Skipped(draft.where, problem_id, why.kind, why.detail, test=name)
        for kind, detail in draft.notes:
            yield Note(draft.where, problem_id, kind, detail)
        if isinstance(asked, Checker):
            yield Note(draft.where, problem_id, "assumed", _in_words(asked))


def _digest(draft: Draft) -> bytes:
    """Hash what makes two rows the same problem, test by test so that no second copy is made."""
    digest = hashlib.sha256()
    # test data without a statement is told apart by its id alone
    about = draft.statement or draft.id
    for part in (about, draft.left_out, draft.refusal, draft.checker, *draft.tests):
        digest.update(repr(part).encode() + b"\n")  # repr escapes lone surrogates
    return digest.digest()


def _usable(draft: Draft) -> tuple[tuple[TestCase, ...], list[tuple[str, Reason]]]:
    tests: list[TestCase] = []
    left_out = list(draft.left_out)
    for test in draft.tests:
        why = why_no_test(test.input, test.output) if draft.from_statement else None
        if why is None:
            tests.append(test)
        else:
            left_out.append((test.name, why))
    return tuple(tests), left_out


def _has_special_judge(draft: Draft) -> bool:
    return draft.checker is not None and draft.checker.kind == "special"


def _in_words(asked: Checker) -> str:
    how = "without regard to the case of letters"
    if asked.kind == "float":
        error = asked.error or "absolute or relative"
        how = f"as numbers, {error} error up to {asked.tolerance}"
    return f"outputs are compared {how}, as the statement says"


def _why_not(
    draft: Draft, tests: tuple[TestCase, ...], left_out: list[tuple[str, Reason]], asked: object
) -> Reason | None:
    """Say why the problem as a whole cannot be judged, or None."""
    told = why_not_judgeable(draft.statement, has_data=not draft.from_statement)
    reason = draft.refusal or told or (asked if isinstance(asked, Reason) else None)
    if reason is not None:
        return reason
    if tests:
        silent = not any(test.output.strip() for test in tests) and not _has_special_judge(draft)
        return Reason("no-output", "no test has an output to compare with") if silent else None
    if not left_out:
        return Reason("no-tests", "no tests")
    detail = "; ".join(f"test {name}: {why.detail}" for name, why in left_out[:3])
    return Reason(left_out[0][1].kind, detail)


def _unique(problem_id: str, taken: dict[str, int]) -> str:
    """Append ``-2``, ``-3``... to an id that is taken, and note how far an id was counted."""
    number = taken.get(problem_id, 0) + 1
    while (unique := f"{problem_id}-{number}" if number > 1 else problem_id) in taken:
        number += 1
    taken |= {unique: 1, problem_id: number}
    return unique
