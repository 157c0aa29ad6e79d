"""The own form of a suite on disk: its fields, how it is read, how it is written.

A folder with

* ``suite.json``: ``{"format": "tinylora-suite/1", "name": ..., "description": ..., ...}``; a
  ``digest`` in it is held against the content;
* ``problems.jsonl``: one problem a line (``datasets.load_dataset("json", ...)`` reads it), with
  the fields of ``problem.Problem``; ``tests`` is a list of objects with the fields of
  ``problem.TestCase``, or ``archive`` names a zip or folder of Luogu test data
  inside the suite's folder. A null field counts as absent.

The digest is the SHA-256 of what judging sees (problems, tests, limits, checkers), so the same
problems have the same digest wherever they lie, however they are packed and wherever they came
from.
"""

import json
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from evaluator.errors import SuiteError, shown
from evaluator.suites.luogu_data import load_luogu_data
from evaluator.suites.problem import Checker, Problem, TestCase
from tinylora.files.json_text import read_object

SUITE_FORMAT = "tinylora-suite/1"

_Part = TypeVar("_Part", TestCase, Checker)

_PARTS = (Problem, TestCase, Checker)
_DEFAULTS = {kind: {field.name: field.default for field in fields(kind)} for kind in _PARTS}
_IN_JSON = {float: (int, float), tuple[TestCase, ...]: (list,), Checker: (dict,)}


def _types_in_json(hint: Any) -> tuple[type, ...]:
    """The types that a field with this annotation has in JSON, where nulls are left out."""
    if get_origin(hint) is Literal:
        return (str,)
    if get_origin(hint) is UnionType or get_origin(hint) is Union:
        return next(_types_in_json(part) for part in get_args(hint) if part is not NoneType)
    return _IN_JSON.get(hint, (hint,))


_TYPES: dict[type, dict[str, tuple[type, ...]]] = {
    kind: {name: _types_in_json(hint) for name, hint in get_type_hints(kind).items()}
    for kind in _PARTS
}


@dataclass(frozen=True)
class Manifest:
    """What ``suite.json`` says.

    Attributes:
        name: Of the suite.
        digest: Of its content, where the suite was imported or otherwise fixed.
    """

    name: str
    digest: str | None


def digest_line(problem: Problem) -> bytes:
    """Give what the digest hashes of a problem: canonical JSON without its ``source``.

    Where a problem came from is not seen by judging.
    """
    content = vars(problem) | {
        "tests": [vars(test) for test in problem.tests],
        "checker": vars(problem.checker),
    }
    if problem.checker.error is None:  # younger than published digests
        content["checker"] = {k: v for k, v in vars(problem.checker).items() if k != "error"}
    del content["source"]
    return json.dumps(content, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def problem_line(problem: Problem) -> bytes:
    """Give a problem's line of ``problems.jsonl``, without fields that have their defaults.

    Test data that is not UTF-8 makes its whole line ASCII with escapes.
    """
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
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


def _without_defaults(part: Problem | TestCase | Checker) -> dict[str, Any]:
    """Fields of a part that differ from their defaults, not descending into them."""
    defaults = _DEFAULTS[type(part)]
    return {name: value for name, value in vars(part).items() if value != defaults[name]}


def read_manifest(folder: Path) -> Manifest:
    """Read ``suite.json``.

    Raises:
        SuiteError: If it is missing or not of this form.
    """
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
    return Manifest(name, digest)


def read_problems(folder: Path) -> Iterator[Problem]:
    """Yield the problems of ``problems.jsonl``.

    Raises:
        SuiteError: If a line is not of this form, or an id stands twice.
    """
    path = folder / "problems.jsonl"
    seen: dict[str, int] = {}
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as stream:
            for line, text in enumerate(stream, start=1):
                if not text.strip():
                    continue
                where = f"{path}, line {line}"
                problem = _problem(folder, where, _parse(where, text))
                if problem.id in seen:
                    first = seen[problem.id]
                    raise SuiteError(f"{where}: id {problem.id!r} stands already in line {first}")
                seen[problem.id] = line
                yield problem
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}, after line {line}: not UTF-8 ({error})") from error


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{where}: not JSON ({error})") from error


def _problem(folder: Path, where: str, row: Any) -> Problem:
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
            _build(f"{where}, test {number}", TestCase, _no_nulls(test), name=str(number))
            for number, test in enumerate(values["tests"], start=1)
        )
    else:
        data = load_luogu_data(_inside(folder, where, archive))
        if other := data.interactor or data.foreign_checker:
            raise SuiteError(f"{where}: {archive!r} brings {other}, which cannot be used here")
        values["tests"] = data.tests
        if data.checker is not None:
            values["checker"] = data.checker
    try:
        return Problem(**values)
    except SuiteError as error:
        raise SuiteError(f"{where}: {error}") from error


def _build(where: str, kind: type[_Part], row: Any, **defaults: Any) -> _Part:
    """Build a test case or a checker from an object."""
    values = _checked(where, {**defaults, **row} if isinstance(row, dict) else row, kind)
    try:
        return kind(**values)
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
    types = _TYPES[kind] | dict.fromkeys(extra, (str,))
    if unknown := sorted(row.keys() - types):
        raise SuiteError(f"{where}: unknown fields {shown(unknown)}, allowed are {sorted(types)}")
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    if missing := sorted(needed - row.keys() - ({"tests"} if "archive" in extra else set())):
        raise SuiteError(f"{where}: missing fields {missing}")
    for key, value in row.items():
        wanted = types[key]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            names = " or ".join(kind.__name__ for kind in wanted)
            raise SuiteError(f"{where}: field {key!r} is {shown(value)}, expected {names}")
    return dict(row)


def _inside(folder: Path, where: str, name: str) -> Path:
    """Resolve an archive's path and hold it inside the suite's folder."""
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL
        raise SuiteError(f"{where}: archive {name!r:.60} is no path ({error})") from error
    if not path.is_relative_to(folder.resolve()):
        raise SuiteError(f"{where}: archive {name!r} lies outside of the suite's folder")
    return path
