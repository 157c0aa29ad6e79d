"""Rows that are a statement and nothing else; the tests are the samples inside it.

The DPO data set has it in ``conversations[0].value``, upstream's failed extractions in ``prompt``.
A sample is a label and a fenced block, for the input and for the output. The labels that occur are
``**输入：**``, ``**输入#1：**``, ``### 输入 #1``, ``#### 样例输入 1``, ``输入样例：``,
``输入数据 1``, ``Sample Input``.
"""

import re
from collections.abc import Iterator

from evaluator.suites.importers.draft import Draft, Importer, Reason, read_heading
from evaluator.suites.importers.rows import Row
from evaluator.suites.importers.screening import split_note, tells_of_elision
from evaluator.suites.problem import Checker, TestCase

_LABEL = re.compile(
    r"#{0,6}\s*\**\s*(?:样例|示例|sample|example)?\s*#?\s*\d*\s*"
    r"(?P<side>输入|输出|input|output)"
    r"\s*(?:样例|示例|数据)?\s*#?\s*\d*\s*[:：]?\s*\**\s*[:：]?",
    re.IGNORECASE,
)
_LABEL_CHARACTERS = 40  # bounds what the pattern's many stars can cost on a hostile line
_FENCE = re.compile(r" {0,3}(?P<marks>`{3,}|~{3,})[^`]*")


def _read_row(row: Row) -> Draft:
    problem_id, headed = read_heading(statement_text(row))
    tests: list[TestCase] = []
    left_out: list[tuple[str, Reason]] = []
    for number, (inp, out) in enumerate(find_samples(headed["statement"]), start=1):
        name = str(number)
        if inp is None or out is None:
            missing = "input" if inp is None else "output"
            left_out.append((name, Reason("unreadable", f"a sample without its {missing}")))
            continue
        (inp, in_note), (out, out_note) = split_note(inp), split_note(out)
        if tells_of_elision(in_note) or tells_of_elision(out_note):
            left_out.append((name, Reason("elided", "a note says that data is left out")))
        else:
            tests.append(TestCase(name=name, input=inp, output=out, pretest=True))
    return Draft(
        where=row.where,
        id=problem_id or str(row.number),
        tests=tuple(tests),
        checker=Checker("tokens") if any(_double_spaced(t.output) for t in tests) else None,
        from_statement=True,
        left_out=tuple(left_out),
        **headed,
    )


def find_samples(statement: str) -> list[tuple[str | None, str | None]]:
    """Find the (input, output) of each sample, every byte between the fences; None is missing."""
    samples: list[tuple[str | None, str | None]] = []
    for is_input, text in _labelled_blocks(statement):
        if is_input:
            samples.append((text, None))
        elif samples and samples[-1][1] is None:
            samples[-1] = samples[-1][0], text
        else:
            samples.append((None, text))
    return samples


def _labelled_blocks(statement: str) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is an input, content) of every fence right below a label."""
    lines = iter(statement.split("\n"))
    label: re.Match[str] | None = None
    for line in lines:
        fence = _FENCE.fullmatch(line.rstrip("\r"))
        if fence is not None:
            closing = re.compile(rf" {{0,3}}{fence['marks'][0]}{{{len(fence['marks'])},}}\s*")
            content = []
            for inside in lines:
                if closing.fullmatch(inside):
                    break
                content.append(inside + "\n")
            else:
                return  # a fence that never ends has no content
            if label is not None:
                yield label["side"].lower() in ("输入", "input"), "".join(content)
            label = None
        elif text := line.strip():
            label = _LABEL.fullmatch(text) if len(text) <= _LABEL_CHARACTERS else None


def statement_text(row: Row) -> str:
    """Give what a model is shown: the first turn that is not the system's, or ``prompt``."""
    if row.fault:
        raise row.error(row.fault)
    turns = row.values.get("conversations")
    text = row.values.get("prompt")
    if isinstance(turns, list):
        spoken = [t for t in turns if isinstance(t, dict) and t.get("from") != "system"]
        text = spoken[0].get("value") if spoken else None
    if not isinstance(text, str):
        raise row.error("expected a string in 'conversations[0].value' or 'prompt'")
    return text


def _double_spaced(output: str) -> bool:
    """Whether a blank line stands between any two lines; the judge's data may be without them."""
    lines = [line.strip() for line in re.split(r"\r?\n", output.rstrip())]
    return len(lines) > 2 and len(lines) % 2 == 1 and all(lines[::2]) and not any(lines[1::2])


IMPORTER = Importer(
    "statements", frozenset({"conversations", "prompt"}), _read_row, has_tests=False
)
