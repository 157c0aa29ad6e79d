"""A suite of problems, read from its own form or from an upstream file as it is.

Own form: a folder with

* ``suite.json``: ``{"format": "tinylora-suite/1", "name": ..., "description": ..., ...}``;
* ``problems.jsonl``: one problem a line (``datasets.load_dataset("json", ...)`` reads it), with
  the fields of :class:`evaluator.problem.Problem`; ``tests`` is a list of objects with the fields
  of :class:`evaluator.problem.TestCase`, or ``archive`` names a zip or folder of Luogu test data
  inside the suite's folder. A null field counts as absent.

The digest is the SHA-256 of what judging sees (problems, tests, limits, checkers), so the same
suite has the same digest wherever it lies and however it is packed.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from evaluator.data_files import DataLimits
from evaluator.errors import SuiteError
from evaluator.luogu_data import load_luogu_data
from evaluator.problem import Checker, Problem, SkippedRow, TestCase, to_bytes
from evaluator.upstream_jsonl import read_upstream_jsonl

__all__ = ["Checker", "Problem", "SkippedRow", "Suite", "TestCase", "load_suite"]

SUITE_FORMAT = "tinylora-suite/1"

_Part = TypeVar("_Part", TestCase, Checker)

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "id": str,
    "statement": str,
    "title": str,
    "family": str,
    "language": str,
    "source": str,
    "prompt": str,
    "name": str,
    "input": str,
    "output": str,
    "kind": str,
    "tests": list,
    "checker": dict,
    "time_limit_ms": int,
    "memory_limit_kib": int,
    "subtask": int,
    "score": (int, float),
    "tolerance": (int, float),
    "pretest": bool,
    "archive": str,
}


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
    skipped: tuple[SkippedRow, ...] = ()

    def by_id(self) -> dict[str, Problem]:
        """Index the problems by their ids."""
        return {problem.id: problem for problem in self.problems}


def load_suite(path: str | Path, limits: DataLimits | None = None) -> Suite:
    """Read a suite: a folder of the own form, or an upstream ``.jsonl`` file.

    Args:
        path: The folder or file.
        limits: Bounds for archives of test data; None means the defaults.

    Raises:
        SuiteError: If anything about it is missing, malformed or not judgeable.
    """
    path = Path(path)
    skipped: tuple[SkippedRow, ...] = ()
    if path.is_dir():
        name = _read_manifest(path / "suite.json")
        problems = tuple(_read_problems(path, limits))
    elif path.is_file():
        name = path.stem
        problems, skipped = read_upstream_jsonl(path)
    else:
        raise SuiteError(f"{path}: no such suite (expected a folder or a .jsonl file)")
    if not problems:
        reasons = "; ".join(f"line {row.line}: {row.reason}" for row in skipped[:3])
        raise SuiteError(
            f"{path}: no problem that can be judged ({reasons or 'the file is empty'})"
        )
    return Suite(name, problems, _digest(path, problems), path, skipped)


def _read_manifest(path: Path) -> str:
    """Check ``suite.json`` and give the suite's name."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SuiteError(f"{path}: missing; a suite's folder has suite.json in it") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: not JSON ({error})") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != SUITE_FORMAT:
        raise SuiteError(f"{path}: 'format' is {found!r}, expected {SUITE_FORMAT!r}")
    name = manifest.get("name")
    if not isinstance(name, str) or not name:
        raise SuiteError(f"{path}: 'name' must be a non-empty string, found {name!r}")
    return name


def _read_problems(folder: Path, limits: DataLimits | None) -> Iterator[Problem]:
    """Yield the problems of ``problems.jsonl``."""
    path = folder / "problems.jsonl"
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            for line, text in enumerate(stream, start=1):
                if not text.strip():
                    continue
                where = f"{path}, line {line}"
                problem = _problem(folder, where, json.loads(text), limits)
                if problem.id in seen:
                    first = seen[problem.id]
                    raise SuiteError(f"{where}: id {problem.id!r} stands already in line {first}")
                seen[problem.id] = line
                yield problem
    except FileNotFoundError as error:
        raise SuiteError(f"{path}: missing ({error})") from error
    except json.JSONDecodeError as error:
        raise SuiteError(f"{path}, line {line}: not JSON ({error})") from error
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not UTF-8 ({error})") from error


def _problem(folder: Path, where: str, row: Any, limits: DataLimits | None) -> Problem:
    """Build one problem from its row."""
    values = _checked(where, row, Problem, extra=frozenset({"archive"}))
    archive = values.pop("archive", None)
    checker = values.pop("checker", None)
    if checker is not None:
        values["checker"] = _build(f"{where}, checker", Checker, checker)
    if (archive is None) == ("tests" not in values):
        raise SuiteError(f"{where}: expected either 'tests' or 'archive'")
    if archive is None:
        values["tests"] = tuple(
            _build(f"{where}, test {number}", TestCase, {"name": str(number), **_no_nulls(test)})
            for number, test in enumerate(values["tests"], start=1)
        )
    else:
        data = load_luogu_data(_inside(folder, where, archive), limits)
        values["tests"] = data.tests
        if data.checker is not None:
            values["checker"] = data.checker
    try:
        return Problem(**values)
    except SuiteError as error:
        raise SuiteError(f"{where}: {error}") from error


def _build(where: str, kind: type[_Part], row: Any) -> _Part:
    """Build a test case or a checker from an object."""
    try:
        return kind(**_checked(where, row, kind))
    except SuiteError as error:
        raise SuiteError(f"{where}: {error}") from error


def _no_nulls(row: Any) -> Any:
    """Drop null fields of an object; ``datasets`` fills columns with them."""
    return {k: v for k, v in row.items() if v is not None} if isinstance(row, dict) else row


def _checked(
    where: str, row: Any, kind: type, extra: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Check names and types of an object's fields against a dataclass."""
    row = _no_nulls(row)
    if not isinstance(row, dict):
        raise SuiteError(f"{where}: expected an object, found {type(row).__name__}")
    known = {field.name for field in fields(kind)} | extra
    if unknown := sorted(row.keys() - known):
        raise SuiteError(f"{where}: unknown fields {unknown}, allowed are {sorted(known)}")
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    if missing := sorted(needed - row.keys() - ({"tests"} if "archive" in extra else set())):
        raise SuiteError(f"{where}: missing fields {missing}")
    for key, value in row.items():
        wanted = str if kind is Checker and key == "source" else _TYPES[key]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise SuiteError(f"{where}: field {key!r} is {value!r:.60}, expected {wanted}")
        if isinstance(value, str):
            _check_encodable(f"{where}: field {key!r}", value)
    return dict(row)


def _check_encodable(where: str, text: str) -> None:
    """Refuse texts that have no bytes (JSON can spell lone surrogates that mean nothing)."""
    try:
        to_bytes(text)
    except UnicodeEncodeError as error:
        raise SuiteError(f"{where}: not encodable as UTF-8 ({error.reason})") from error


def _inside(folder: Path, where: str, name: str) -> Path:
    """Resolve an archive's path and hold it inside the suite's folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise SuiteError(f"{where}: archive {name!r} lies outside of the suite's folder")
    return path


def _digest(path: Path, problems: tuple[Problem, ...]) -> str:
    """Hash the problems as canonical JSON, one after the other."""
    digest = hashlib.sha256()
    for problem in problems:
        content = asdict(problem)
        if path.is_file():
            del content["source"]  # names the file, and a copy of it is the same suite
        digest.update(json.dumps(content, sort_keys=True, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()
