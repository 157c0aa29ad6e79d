"""A suite of problems, read from its own form or from another one as it is."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evaluator.errors import SuiteError
from evaluator.suites.importers.draft import Note, Skipped
from evaluator.suites.importers.forms import read_source
from evaluator.suites.problem import Checker, Problem, TestCase
from evaluator.suites.suite_form import digest_line, read_manifest, read_problems

logger = logging.getLogger(__name__)

__all__ = ["Checker", "Note", "Problem", "Skipped", "Suite", "TestCase", "load_suite"]


@dataclass(frozen=True)
class Suite:
    """A set of problems.

    Attributes:
        problems: In the file's order; ids are unique; never empty.
        digest: SHA-256 (hex) of the content.
        skipped: What the source holds and cannot be judged, with reasons.
        notes: What was assumed about a source that is read as it is, and files that were not used.
    """

    name: str
    problems: tuple[Problem, ...]
    digest: str
    path: Path
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[Note, ...] = ()

    def by_id(self) -> dict[str, Problem]:
        """Index the problems by their ids."""
        return {problem.id: problem for problem in self.problems}


def load_suite(path: str | Path) -> Suite:
    """Read a suite: a folder of the own form, or a source of any form that can be imported.

    Raises:
        SuiteError: If anything about it is missing, malformed or not judgeable.
    """
    path = Path(path)
    if not path.exists():
        raise SuiteError(f"{path}: no such suite (expected a file or folder)")
    if not any((path / name).exists() for name in ("suite.json", "problems.jsonl")):
        return _read_as_it_is(path)
    name, fixed = read_manifest(path)
    problems = tuple(read_problems(path))
    if not problems:
        raise no_problems(path, ())
    digest = _digest(problems)
    if fixed not in (None, digest):
        found = f"the content's digest is {digest}, suite.json says {fixed}: a file was changed"
        raise SuiteError(f"{path}: {found}. Import it again, or take 'digest' out of suite.json")
    return Suite(name, problems, digest, path)


def _read_as_it_is(path: Path) -> Suite:
    """Read a source without importing it."""
    found = tuple(read_source(path))
    problems = tuple(item for item in found if isinstance(item, Problem))
    skipped = tuple(item for item in found if isinstance(item, Skipped))
    if not problems:
        raise no_problems(path, skipped)
    notes = tuple(item for item in found if isinstance(item, Note))
    if skipped or notes:
        first = f"{skipped[0].where}: {skipped[0].reason}" if skipped else notes[0].detail
        counts = f"{len(skipped)} problems or tests left out, {len(notes)} things to know"
        logger.warning("%s: %s (%s); an import lists them all", path, counts, first)
    return Suite(path.stem, problems, _digest(problems), path, skipped, notes)


def no_problems(path: Path, skipped: Iterable[Skipped]) -> SuiteError:
    """The error of a suite that no program can fail."""
    reasons = "; ".join(f"{s.where}: {s.reason}" for s in list(skipped)[:3])
    nothing = "it is empty, or of no form that docs/suites.md names"
    return SuiteError(f"{path}: no problem that can be judged ({reasons or nothing})")


def _digest(problems: Iterable[Problem]) -> str:
    """Hash the problems, one after the other."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(digest_line(problem))
    return digest.hexdigest()
