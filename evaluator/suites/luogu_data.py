"""Luogu test data: ``name.in`` + ``name.out``/``name.ans``, ``config.yml``, ``checker.cpp``.

The statement may lie with it as ``statement.md``. Names count in any letter case, a special judge
under any of its usual names. ``config.yml`` maps an input or output file to ``timeLimit`` (ms),
``memoryLimit`` (kB), ``score``, ``subtaskId``, ``isPretest``; all of them are optional.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from evaluator.checked import checked
from evaluator.errors import ArchiveError, shown
from evaluator.suites.data_files import decode_statement, is_left_behind, read_data_files
from evaluator.suites.limits import Limit, kibibytes, milliseconds
from evaluator.suites.problem import Checker, TestCase, to_text
from tinylora.errors import YamlError
from tinylora.files.yaml_text import load_yaml

_ANSWER_SUFFIXES = (".out", ".ans")
_CONFIG_NAMES = ("config.yml", "config.yaml")
_STATEMENT_NAMES = ("statement.md", "statement.txt", "problem.md")
_CHECKER = re.compile(
    r"(?:.*[-_. ])?(?:checker|chk|check|spj|tpj|special[-_ ]?judger?)[-_]?\d{0,2}"
)
_CPP_SUFFIXES = (".cpp", ".cc", ".cxx", ".c++", ".c")
_OTHER_PROGRAMS = ("", ".py", ".pas", ".java", ".class", ".jar", ".exe", ".js", ".go", ".rs", ".sh")
_INTERACTOR = re.compile(
    r"(?:interactive_lib|interactor|interactive|interlib|grader)\.(?:cpp|cc|cxx|c|h|hpp|py|pas|java)"
)
_ABSENT = ("", "~", "null")


def _some(limit: Limit | None) -> int:
    if limit is None:
        raise ValueError("a limit of nothing")
    return limit.value


_Time = Annotated[int | None, BeforeValidator(lambda text: _some(milliseconds(text, "ms")))]
_Memory = Annotated[int | None, BeforeValidator(lambda text: _some(kibibytes(text, "kib")))]


class _Settings(BaseModel):
    """What ``config.yml`` may say of a test, in texts."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    score: float = Field(default=1.0, ge=0)
    subtask: int | None = Field(default=None, alias="subtaskId")
    time_limit_ms: _Time = Field(default=None, alias="timeLimit")
    memory_limit_kib: _Memory = Field(default=None, alias="memoryLimit")
    pretest: bool = Field(default=False, alias="isPretest")


@dataclass(frozen=True)
class LuoguData:
    """What a Luogu archive says about its problem.

    Attributes:
        tests: In the order of the numbers in their names.
        interactor: Name of the library that an interactive problem is linked with.
        foreign_checker: Name of a special judge that is no C++ source, where there is no other.
        unused: Names of files that mean nothing here.
    """

    tests: tuple[TestCase, ...]
    checker: Checker | None
    statement: str | None = None
    interactor: str | None = None
    foreign_checker: str | None = None
    unused: tuple[str, ...] = ()


def load_luogu_data(path: Path) -> LuoguData:
    """Read a zip or folder; an ArchiveError if it is an attack, incomplete or badly configured."""
    files = read_data_files(path)
    meant = {name: data for name, data in files.items() if not is_left_behind(name)}
    pairs = _pair_up(path, meant)
    config_name, statement_name = _first(meant, _CONFIG_NAMES), _first(meant, _STATEMENT_NAMES)
    config = {} if config_name is None else _read_config(path, config_name, meant, pairs)
    tests = []
    for stem in sorted(pairs, key=_natural):
        inp, out = (to_text(meant[name]) for name in pairs[stem])
        try:
            settings = checked(_Settings, config.get(stem, {}))
        except ValueError as error:
            raise ArchiveError(f"{path}: {config_name}, {stem!r:.60}: {error}") from error
        name = stem.encode("utf-8", "backslashreplace").decode()
        tests.append(TestCase(name, inp, out, **dict(settings)))
    checker_name, checker, statement = _checker_name(path, meant), None, None
    if checker_name is not None:
        checker = Checker(kind="special", source=to_text(meant[checker_name]))
    if statement_name is not None:
        statement = decode_statement(f"{path}: {statement_name}", meant[statement_name])
    foreign = (n for n in meant if _split(n)[1] in _OTHER_PROGRAMS and _is_checker(n))
    used = {config_name, statement_name, checker_name, *chain.from_iterable(pairs.values())}
    return LuoguData(
        tests=tuple(tests),
        checker=checker,
        statement=statement,
        interactor=next((name for name, data in meant.items() if _interacts(name, data)), None),
        foreign_checker=None if checker else next(foreign, None),
        unused=tuple(name for name in files if name not in used),
    )


def _first(names: Iterable[str], wanted: tuple[str, ...]) -> str | None:
    """The name that is spelled as wanted, or else like it."""
    found = [name for name in names if name.lower() in wanted]
    return min(found, key=lambda n: (wanted.index(n.lower()), n != n.lower(), n), default=None)


def _pair_up(path: Path, files: Mapping[str, bytes]) -> dict[str, tuple[str, str]]:
    """Match input and answer files by their stem: stem -> (input name, answer name)."""
    sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for name in files:
        stem, suffix = PurePosixPath(name).stem, _split(name)[1]
        if suffix not in (".in", *_ANSWER_SUFFIXES):
            continue
        side = sides[suffix != ".in"]
        if stem in side:
            what = "answers" if side is sides[1] else "inputs"
            raise ArchiveError(f"{path}: {stem!r} has two {what}, {side[stem]} and {name}")
        side[stem] = name
    inputs, answers = sides
    lone = sorted(inputs.keys() ^ answers.keys())
    if lone:
        raise ArchiveError(f"{path}: tests without an input or without an answer: {lone[:5]}")
    if not inputs:
        raise ArchiveError(f"{path}: no tests (expected name.in with name.out or name.ans)")
    return {stem: (inputs[stem], answers[stem]) for stem in inputs}


def _checker_name(path: Path, files: Mapping[str, bytes]) -> str | None:
    """Find the special judge: by Luogu's name, by another usual one, or by its use of testlib."""
    sources = ((name, data) for name, data in files.items() if _split(name)[1] in _CPP_SUFFIXES)
    found = [n for n, data in sources if _is_checker(n) or b"registerTestlibCmd" in data]
    for name in found:
        if name.lower() == "checker.cpp" or len({files[other] for other in found}) == 1:
            return name
    if found:
        raise ArchiveError(f"{path}: which is the special judge, {' or '.join(found)}?")
    return None


def _is_checker(name: str) -> bool:
    return _CHECKER.fullmatch(_split(name)[0]) is not None


def _interacts(name: str, data: bytes) -> bool:
    """Whether a file is a program that talks to the solution, or a library that it is linked to."""
    interacts = _split(name)[1] in _CPP_SUFFIXES and b"registerInteraction" in data
    return interacts or _INTERACTOR.fullmatch(name.lower()) is not None


def _split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name.lower())
    return path.stem, path.suffix


def _read_config(
    path: Path, name: str, files: Mapping[str, bytes], pairs: Mapping[str, tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    """Read ``config.yml`` into stem -> settings, all of them texts."""
    text = decode_statement(f"{path}: {name}", files[name])
    try:
        loaded = load_yaml(text.encode(), f"{path}: {name}", texts=True)
    except YamlError as error:
        raise ArchiveError(str(error)) from error
    if loaded is None:  # comments alone
        return {}
    if not isinstance(loaded, dict):
        raise ArchiveError(f"{path}: {name} holds a {type(loaded).__name__}, expected a mapping")
    spelled = {file: stem for stem, names in pairs.items() for file in names}
    alike = {file.lower(): stem for file, stem in spelled.items()}
    config: dict[str, dict[str, Any]] = {}
    for key, value in loaded.items():
        stem = spelled.get(key) or alike.get(str(key).lower())
        if stem is None:
            expected = "expected the name of an input or output"
            raise ArchiveError(f"{path}: {name} names {shown(key)}, which is no test; {expected}")
        if not isinstance(value, dict):
            found = f"expected a mapping, found {shown(value)}"
            raise ArchiveError(f"{path}: {name}, {shown(key)}: {found}")
        value = {setting: text for setting, text in value.items() if text not in _ABSENT}
        config.setdefault(stem, {}).update(value)
    return config


def _natural(stem: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``a2`` before ``a10``, however long the numbers are."""
    parts = re.split(r"(\d+)", stem)
    digits = ((part, part.lstrip("0")) for part in parts if part)
    return tuple(
        (0, len(number), number) if part.isdecimal() else (1, 0, part) for part, number in digits
    )
