"""A suite of problems, read from its own form or from another one as it is."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evaluator.errors import SuiteError
from evaluator.suites.data_files import DataLimits
from evaluator.suites.importers.draft import Skipped
from evaluator.suites.importers.source import read_source
from evaluator.suites.problem import Checker, Problem, TestCase
from evaluator.suites.suite_form import digest_line, read_manifest, read_problems

__all__ = ["Checker", "Problem", "Skipped", "Suite", "TestCase", "load_suite"]


@dataclass(frozen=True)
class Suite:
    """A set of problems.

    Attributes:
        name: From ``suite.json``, or the file's stem.
        problems: In the file's order; ids are unique; never empty.
        digest: SHA-256 (hex) of the content.
        path: Where it was read from.
        skipped: What the source holds and cannot be judged, with reasons.
    """

    name: str
    problems: tuple[Problem, ...]
    digest: str
    path: Path
    skipped: tuple[Skipped, ...] = ()

    def by_id(self) -> dict[str, Problem]:
        """Index the problems by their ids."""
        return {problem.id: problem for problem in self.problems}


def load_suite(path: str | Path, limits: DataLimits | None = None) -> Suite:
    """Read a suite: a folder of the own form, or a file of any form that can be imported.

    Args:
        path: The folder or file.
        limits: Bounds for archives of test data; None means the defaults.

    Raises:
        SuiteError: If anything about it is missing, malformed or not judgeable.
    """
    path = Path(path)
    if path.is_dir():
        manifest = read_manifest(path)
        problems = tuple(read_problems(path, limits))
        if not problems:
            raise no_problems(path, ())
        digest = _digest(problems)
        if manifest.digest not in (None, digest):
            raise SuiteError(
                f"{path}: the content's digest is {digest}, suite.json says {manifest.digest}: a "
                "file was changed since. Import it again, or take 'digest' out of suite.json"
            )
        return Suite(manifest.name, problems, digest, path)
    if not path.is_file():
        raise SuiteError(f"{path}: no such suite (expected a folder or a file)")
    found = tuple(read_source(path, data_limits=limits))
    problems = tuple(item for item in found if isinstance(item, Problem))
    skipped = tuple(item for item in found if isinstance(item, Skipped))
    if not problems:
        raise no_problems(path, skipped)
    return Suite(path.stem, problems, _digest(problems), path, skipped)


def no_problems(path: Path, skipped: Iterable[Skipped]) -> SuiteError:
    """The error of a suite that no program can fail."""
    reasons = "; ".join(f"{s.where}: {s.reason}" for s in list(skipped)[:3])
    return SuiteError(f"{path}: no problem that can be judged ({reasons or 'the file is empty'})")


def _digest(problems: Iterable[Problem]) -> str:
    """Hash the problems, one after the other."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(digest_line(problem))
    return digest.hexdigest()
