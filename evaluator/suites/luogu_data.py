"""Luogu test data: ``name.in`` + ``name.out``/``name.ans``, ``config.yml``, ``checker.cpp``.

The statement may lie with it as ``statement.md``, which is this project's own habit.

``config.yml`` is keyed by the input or the output file name, each value being a mapping of
``timeLimit`` (ms), ``memoryLimit`` (kB), ``score``, ``subtaskId``, ``isPretest``; all of them are
optional. Without it every test has the same score and the problem's limits.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evaluator.errors import ArchiveError
from evaluator.suites.data_files import DataLimits, read_data_files
from evaluator.suites.problem import Checker, TestCase, to_text

_ANSWER_SUFFIXES = (".out", ".ans")
_CONFIG_NAMES = ("config.yml", "config.yaml")
_CHECKER_NAME = "checker.cpp"
_INTERACTOR_NAMES = ("interactive_lib.cpp", "interactor.cpp")
_STATEMENT_NAME = "statement.md"
_CONFIG_KEYS = frozenset({"timeLimit", "memoryLimit", "score", "subtaskId", "isPretest"})
_MAX_CONFIG_BYTES = 1 << 20
_MAX_CONFIG_DEPTH = 32


@dataclass(frozen=True)
class LuoguData:
    """What a Luogu archive says about its problem.

    Attributes:
        tests: In the order of the numbers in their names.
        checker: The special judge, or None where the archive brings none.
        statement: Of ``statement.md``, or None.
        interactor: Name of the library that an interactive problem is linked with, or None.
    """

    tests: tuple[TestCase, ...]
    checker: Checker | None
    statement: str | None = None
    interactor: str | None = None


def load_luogu_data(path: Path, limits: DataLimits | None = None) -> LuoguData:
    """Read a zip or folder of Luogu test data.

    Args:
        path: A ``.zip`` file or a folder.
        limits: Bounds of what is read; None means the defaults.

    Raises:
        ArchiveError: If the data is an attack, incomplete, ambiguous, or badly configured.
    """
    files = read_data_files(path, limits)
    pairs = _pair_up(path, files)
    config = _read_config(path, files, pairs)
    tests = tuple(
        _test_case(path, stem, files[inp], files[out], config.get(stem, {}))
        for stem, (inp, out) in sorted(pairs.items(), key=lambda item: _natural(item[0]))
    )
    source = files.get(_CHECKER_NAME)
    checker = None
    if source is not None:
        checker = Checker(kind="special", source=to_text(source))
    statement = files.get(_STATEMENT_NAME)
    return LuoguData(
        tests=tests,
        checker=checker,
        statement=None if statement is None else to_text(statement),
        interactor=next((name for name in _INTERACTOR_NAMES if name in files), None),
    )


def _pair_up(path: Path, files: Mapping[str, bytes]) -> dict[str, tuple[str, str]]:
    """Match input and answer files by their stem: stem -> (input name, answer name)."""
    inputs = {name[: -len(".in")]: name for name in files if name.endswith(".in")}
    answers: dict[str, str] = {}
    for name in files:
        if not name.endswith(_ANSWER_SUFFIXES):
            continue
        stem = name.rsplit(".", 1)[0]
        if stem in answers:
            raise ArchiveError(f"{path}: {stem!r} has two answers, {answers[stem]} and {name}")
        answers[stem] = name
    lone = sorted(inputs.keys() ^ answers.keys())
    if lone:
        raise ArchiveError(f"{path}: tests without an input or without an answer: {lone[:5]}")
    if not inputs:
        raise ArchiveError(f"{path}: no tests (expected name.in with name.out or name.ans)")
    return {stem: (inputs[stem], answers[stem]) for stem in inputs}


def _read_config(
    path: Path, files: Mapping[str, bytes], pairs: Mapping[str, tuple[str, str]]
) -> dict[str, Mapping[str, Any]]:
    """Read ``config.yml`` into stem -> settings."""
    name = next((name for name in _CONFIG_NAMES if name in files), None)
    if name is None:
        return {}
    if len(files[name]) > _MAX_CONFIG_BYTES:
        raise ArchiveError(f"{path}: {name} has more than {_MAX_CONFIG_BYTES} bytes")
    if _depth(files[name]) > _MAX_CONFIG_DEPTH:
        raise ArchiveError(f"{path}: {name} nests deeper than {_MAX_CONFIG_DEPTH} brackets")
    try:
        # Aliases are how a small YAML file grows without bound; Luogu's never have any.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(files[name])):
            raise ArchiveError(f"{path}: {name} uses YAML aliases")
        loaded = yaml.safe_load(files[name])
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{path}: {name} is not readable YAML ({error})") from error
    if not isinstance(loaded, dict):
        raise ArchiveError(f"{path}: {name} holds a {type(loaded).__name__}, expected a mapping")
    stems = {file: stem for stem, names in pairs.items() for file in names}
    config: dict[str, Mapping[str, Any]] = {}
    for key, value in loaded.items():
        if key not in stems:
            raise ArchiveError(f"{path}: {name} names {key!r}, which is no test of the archive")
        if not isinstance(value, dict) or not value.keys() <= _CONFIG_KEYS:
            raise ArchiveError(
                f"{path}: {name}, {key!r}: expected a mapping with keys among "
                f"{sorted(_CONFIG_KEYS)}, found {value!r}"
            )
        config[stems[key]] = {**config.get(stems[key], {}), **value}
    return config


def _depth(text: bytes) -> int:
    """Bound the nesting of brackets, on which the YAML reader's time grows quadratically."""
    depth = deepest = 0
    for bracket in re.findall(rb"[\[\]{}]", text):
        depth = max(0, depth + (1 if bracket in b"[{" else -1))
        deepest = max(deepest, depth)
    return deepest


def _test_case(
    path: Path, stem: str, inp: bytes, out: bytes, config: Mapping[str, Any]
) -> TestCase:
    """Build one test, checking the types of its settings."""
    where = f"{path}: config of {stem!r}"
    score = _number(where, "score", config.get("score"))
    return TestCase(
        name=stem,
        input=to_text(inp),
        output=to_text(out),
        score=1.0 if score is None else float(score),
        subtask=_whole(where, "subtaskId", config.get("subtaskId")),
        time_limit_ms=_whole(where, "timeLimit", config.get("timeLimit")),
        memory_limit_kib=_whole(where, "memoryLimit", config.get("memoryLimit")),
        pretest=config.get("isPretest") is True,
    )


def _number(where: str, key: str, value: Any) -> int | float | None:
    """Check that a setting is a number, or absent."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ArchiveError(f"{where}: {key} is {value!r}, expected a number")
    return value


def _whole(where: str, key: str, value: Any) -> int | None:
    """Check that a setting is a whole number, or absent."""
    number = _number(where, key, value)
    if number is not None and number != int(number):
        raise ArchiveError(f"{where}: {key} is {value!r}, expected a whole number")
    return None if number is None else int(number)


def _natural(stem: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts ``a2`` before ``a10``."""
    parts = re.split(r"(\d+)", stem)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)
