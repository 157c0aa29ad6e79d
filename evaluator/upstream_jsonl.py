"""The upstream project's RL data, read as it is.

One JSON object a line: ``{"prompt": str, "test_cases": [{"input": str, "output": str}, ...]}``.
The statement stands inside the prompt, from its heading ``# P1002 [NOIP 2002] ...`` on; the
heading's first word is the problem's id. There are no limits and no checker: Luogu's usual
comparison and the evaluator's default limits hold.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluator.errors import SuiteError
from evaluator.problem import Problem, SkippedRow, TestCase

_HEADING = re.compile(
    r"^#[ \t]+(?P<id>(?:[PBTU]|SP|UVA)\d+|CF\d+[A-Z]\d*|AT_?\w+)\b[ \t]*(?P<title>.*)$",
    re.MULTILINE,
)
_NOTHING = "无"
_ELIDED_NOTE = re.compile(r"…|不予展示|剩余.{0,6}省略")
_INTERACTIVE = re.compile(
    r"(?<!不是)(?<!非)交互(?:题|式|库)|\binteractive (?:problem|task)\b", re.I
)


def read_upstream_jsonl(path: Path) -> tuple[tuple[Problem, ...], tuple[SkippedRow, ...]]:
    """Read all problems that can be judged, and list the others.

    The first problem of an id keeps it. A later row with the same prompt and tests is left out as
    a duplicate; a later row that differs is kept as ``<id>-2``, ``<id>-3`` and so on.

    Args:
        path: The jsonl file.

    Raises:
        SuiteError: If the file cannot be read or a line is not of this form.
    """
    problems: dict[str, Problem] = {}
    skipped: list[SkippedRow] = []
    for line, row in _rows(path):
        prompt, cases = _check_row(path, line, row)
        problem_id, title, statement = _heading(prompt, line)
        tests, reasons = _usable_tests(prompt, cases)
        skipped += [SkippedRow(line, problem_id, reason) for reason in reasons]
        if not tests:
            continue
        same = [p for p in problems.values() if p.prompt == prompt and p.tests == tests]
        if same:
            skipped.append(SkippedRow(line, problem_id, f"duplicate of {same[0].id!r}"))
            continue
        unique = _unique_id(problem_id, problems)
        problems[unique] = Problem(
            id=unique,
            statement=statement,
            tests=tests,
            title=title,
            language="zh" if re.search(r"[\u4e00-\u9fff]", statement) else "en",
            source=f"{path.name}:{line}",
            prompt=prompt,
        )
    return tuple(problems.values()), tuple(skipped)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line number, object) of every line that is not blank."""
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            for line, text in enumerate(stream, start=1):
                if text.strip():
                    yield line, json.loads(text)
    except json.JSONDecodeError as error:
        raise SuiteError(f"{path}, line {line}: not JSON ({error})") from error
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not UTF-8 ({error})") from error


def _check_row(path: Path, line: int, row: Any) -> tuple[str, list[Mapping[str, str]]]:
    """Check one row's fields."""
    where = f"{path}, line {line}"
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise SuiteError(f"{where}: expected an object with a string 'prompt'")
    cases = row.get("test_cases")
    if not isinstance(cases, list):
        raise SuiteError(f"{where}: expected a list 'test_cases', found {type(cases).__name__}")
    for number, case in enumerate(cases, start=1):
        texts = [case.get(key) for key in ("input", "output")] if isinstance(case, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise SuiteError(f"{where}: test case {number} needs strings 'input' and 'output'")
    return row["prompt"], cases


def _heading(prompt: str, line: int) -> tuple[str, str, str]:
    """Find id, title and statement; without a heading the id is the line number."""
    match = _HEADING.search(prompt)
    if match is None:
        return str(line), "", prompt
    return match["id"], match["title"].strip(), prompt[match.start() :]


def _usable_tests(
    prompt: str, cases: list[Mapping[str, str]]
) -> tuple[tuple[TestCase, ...], list[str]]:
    """Split the cases into tests and reasons why others are none."""
    if not cases:
        return (), ["no tests"]
    if _INTERACTIVE.search(prompt):
        return (), ["interactive problem: there is no interactor to judge it with"]
    tests: list[TestCase] = []
    reasons: list[str] = []
    for number, case in enumerate(cases, start=1):
        reason = _why_unusable(case["input"], case["output"])
        if reason is None:
            tests.append(TestCase(name=str(number), input=case["input"], output=case["output"]))
        else:
            reasons.append(f"test {number}: {reason}")
    return tuple(tests), reasons


def _why_unusable(inp: str, out: str) -> str | None:
    """Say why a test cannot be judged, or None."""
    if inp.strip() == _NOTHING:
        return f"answer-only (the input is {_NOTHING!r})"
    if _is_elided(inp) or _is_elided(out):
        return "elided data ('...')"
    if not out.strip():
        return "no output to compare with"
    return None


def _is_elided(text: str) -> bool:
    """Whether part of a sample is cut out; a grid drawn with dots is not."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    dotted = sum("." in line for line in lines)
    grid = len({len(line) for line in lines}) == 1 and dotted > 1
    return ("..." in lines and not grid) or _ELIDED_NOTE.search(text) is not None


def _unique_id(problem_id: str, taken: Mapping[str, Problem]) -> str:
    """Append ``-2``, ``-3``... to an id that is taken."""
    unique, number = problem_id, 1
    while unique in taken:
        number += 1
        unique = f"{problem_id}-{number}"
    return unique
