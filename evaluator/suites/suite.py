"""A suite of problems, read from a folder of its own form or from another source as it is.

The own form is ``suite.json``, whose ``digest`` is held against the content, and
``problems.jsonl``, one problem a line with the fields of ``problem.Problem``; instead of ``tests``
an ``archive`` may name a zip or folder of Luogu test data inside the suite's folder. The digest is
the SHA-256 of what judging sees, so the same problems have the same digest wherever they come from.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from evaluator.checked import checked
from evaluator.errors import SuiteError, shown
from evaluator.suites.importers.draft import Note, Skipped
from evaluator.suites.importers.forms import read_source
from evaluator.suites.luogu_data import load_luogu_data
from evaluator.suites.problem import Checker, Problem, TestCase
from tinylora.files.json_text import read_object

logger = logging.getLogger(__name__)

SUITE_FORMAT = "tinylora-suite/1"


@dataclass(frozen=True)
class Suite:
    """A set of problems.

    Attributes:
        problems: In the file's order; ids are unique; never empty.
        digest: SHA-256 (hex) of the content.
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

    def first(self, count: int | None) -> "Suite":
        """The same with its first problems only; None: with all."""
        return replace(self, problems=self.problems[:count])


def load_suite(path: str | Path) -> Suite:
    """Read a suite: a folder of the own form, or a source of any form that can be imported."""
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
    found = tuple(read_source(path))
    problems = tuple(item for item in found if isinstance(item, Problem))
    skipped = tuple(item for item in found if isinstance(item, Skipped))
    if not problems:
        raise no_problems(path, skipped)
    notes = [item for item in found if isinstance(item, Note)]
    if skipped or notes:
        first = f"{skipped[0].where}: {skipped[0].reason}" if skipped else notes[0].detail
        counts = f"{len(skipped)} problems or tests left out, {len(notes)} things to know"
        logger.warning("%s: %s (%s); an import lists them all", path, counts, first)
    return Suite(path.stem, problems, _digest(problems), path, skipped)


def no_problems(path: Path, skipped: Iterable[Skipped]) -> SuiteError:
    """The error of a suite that no program can fail."""
    reasons = "; ".join(f"{s.where}: {s.reason}" for s in list(skipped)[:3])
    nothing = "it is empty, or of no form that docs/suites.md names"
    return SuiteError(f"{path}: no problem that can be judged ({reasons or nothing})")


def _digest(problems: Iterable[Problem]) -> str:
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(digest_line(problem))
    return digest.hexdigest()


def digest_line(problem: Problem) -> bytes:
    """Give what the digest hashes of a problem: canonical JSON without its ``source``."""
    content = vars(problem) | {
        "tests": [vars(test) for test in problem.tests],
        "checker": vars(problem.checker),
    }
    if problem.checker.error is None:  # younger than published digests
        content["checker"] = {k: v for k, v in vars(problem.checker).items() if k != "error"}
    del content["source"]
    return json.dumps(content, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def problem_line(problem: Problem) -> bytes:
    """Give a problem's line of ``problems.jsonl``, without fields that have their defaults."""
    row = _without_defaults(problem)
    del row["checker"]
    if problem.checker != Checker():
        row["checker"] = {"kind": problem.checker.kind, **_without_defaults(problem.checker)}
    row["tests"] = [
        {**_without_defaults(test), "name": test.name, "score": float(test.score)}
        for test in problem.tests
    ]
    # limits are written in any case: defaults may change, a suite must not
    row |= {"time_limit_ms": problem.time_limit_ms, "memory_limit_kib": problem.memory_limit_kib}
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # test data that is not UTF-8
        return json.dumps(row).encode() + b"\n"


def _without_defaults(part: Problem | TestCase | Checker) -> dict[str, Any]:
    """Fields of a part that differ from their defaults, not descending into them."""
    found = {field.name: (getattr(part, field.name), field.default) for field in fields(part)}
    return {name: value for name, (value, default) in found.items() if value != default}


def read_manifest(folder: Path) -> tuple[str, str | None]:
    """Read name and digest from ``suite.json``; a digest is there where the content is fixed."""
    path = folder / "suite.json"
    try:
        manifest = read_object(path, SuiteError)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error})") from error
    if (found := manifest.get("format")) != SUITE_FORMAT:
        raise SuiteError(f"{path}: 'format' is {shown(found)}, expected {SUITE_FORMAT!r}")
    name = manifest.get("name")
    if not isinstance(name, str) or not name:
        raise SuiteError(f"{path}: 'name' must be a non-empty string, found {shown(name)}")
    digest = manifest.get("digest")
    if not isinstance(digest, str | None):
        raise SuiteError(f"{path}: 'digest' must be a string, found {shown(digest)}")
    return name, digest


def read_problems(folder: Path) -> Iterator[Problem]:
    """Yield the problems of ``problems.jsonl``; a SuiteError names a line that is not one."""
    path = folder / "problems.jsonl"
    seen: dict[str, int] = {}
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as stream:
            for line, text in enumerate(stream, start=1):
                if not text.strip():
                    continue
                where = f"{path}, line {line}"
                try:
                    row = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise SuiteError(f"{where}: not JSON ({error})") from error
                problem = _problem(folder, where, row)
                if problem.id in seen:
                    first = seen[problem.id]
                    raise SuiteError(f"{where}: id {problem.id!r} stands already in line {first}")
                seen[problem.id] = line
                yield problem
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}, after line {line}: not UTF-8 ({error})") from error


def _problem(folder: Path, where: str, row: Any) -> Problem:
    if not isinstance(row, dict):
        raise SuiteError(f"{where}: expected an object, found {type(row).__name__}")
    values = _given(row)
    if ("archive" in values) == ("tests" in values):
        raise SuiteError(f"{where}: expected either 'tests' or 'archive', found {shown([*values])}")
    if "archive" in values:
        archive = values.pop("archive")
        data = load_luogu_data(_inside(folder, where, archive))
        if other := data.interactor or data.foreign_checker:
            raise SuiteError(f"{where}: {archive!r} brings {other}, which cannot be used here")
        values["tests"] = data.tests
        values |= {"checker": data.checker} if data.checker else {}
    elif isinstance(tests := values["tests"], list):
        values["tests"] = [_given(test, name=str(n)) for n, test in enumerate(tests, start=1)]
    if "checker" in values:
        values["checker"] = _given(values["checker"])
    try:
        return checked(Problem, values)
    except ValueError as error:
        raise SuiteError(f"{where}: {error}") from error


def _given(part: Any, **defaults: str) -> Any:
    """What an object has; nulls count as absent."""
    if not isinstance(part, dict):
        return part
    return defaults | {name: value for name, value in part.items() if value is not None}


def _inside(folder: Path, where: str, name: Any) -> Path:
    """Resolve an archive's path and hold it inside the suite's folder."""
    try:
        path: Path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError, TypeError) as error:  # a loop of links, a NUL
        raise SuiteError(f"{where}: archive {shown(name)} is no path ({error})") from error
    if not path.is_relative_to(folder.resolve()):
        raise SuiteError(f"{where}: archive {name!r} lies outside of the suite's folder")
    return path
