"""Samples inside a statement: a label, a fenced block, for the input and for the output.

The labels that occur are ``**输入：**``, ``**输入#1：**``, ``### 输入 #1``, ``#### 样例输入 1``,
``输入样例：``, ``输入数据 1``, ``Sample Input``. A fence may name a language, be of more than three
characters or of tildes, and ends at the first line of at least as many of the same.
"""

import re
from dataclasses import dataclass

_LABEL = re.compile(
    r"#{0,6}\s*\**\s*(?:样例|示例|sample|example)?\s*#?\s*\d*\s*"
    r"(?P<side>输入|输出|input|output)"
    r"\s*(?:样例|示例|数据)?\s*#?\s*\d*\s*[:：]?\s*\**\s*[:：]?",
    re.IGNORECASE,
)
_LABEL_CHARACTERS = 40  # bounds what the pattern's many stars can cost on a hostile line
_FENCE = re.compile(r" {0,3}(?P<marks>`{3,}|~{3,})[^`]*")


@dataclass(frozen=True)
class Sample:
    """One sample, every byte between the fences.

    Attributes:
        input: None where an output has no input before it.
        output: None where an input has no output after it.
    """

    input: str | None
    output: str | None


def find_samples(statement: str) -> tuple[Sample, ...]:
    r"""Find the labelled samples of a statement, in its order.

    Example:
        >>> find_samples("**输入：**\n```\n 1\n```\n\n**输出：**\n```\n2\n```\n")
        (Sample(input=' 1\n', output='2\n'),)
    """
    samples: list[Sample] = []
    waiting: str | None = None
    for side, text in _labelled_blocks(statement):
        if side == "output":
            samples.append(Sample(waiting, text))
            waiting = None
        else:
            if waiting is not None:
                samples.append(Sample(waiting, None))
            waiting = text
    if waiting is not None:
        samples.append(Sample(waiting, None))
    return tuple(samples)


def _labelled_blocks(statement: str) -> list[tuple[str, str]]:
    """Find (``input`` or ``output``, content) of every fence right below a label."""
    found: list[tuple[str, str]] = []
    lines = statement.split("\n")
    side: str | None = None
    index = 0
    while index < len(lines):
        line = lines[index].rstrip("\r")
        index += 1
        fence = _FENCE.fullmatch(line)
        if fence is not None:
            end = _end_of_fence(lines, index, fence["marks"])
            if side is not None and end < len(lines):  # a fence that never ends has no content
                found.append((side, "".join(line + "\n" for line in lines[index:end])))
            side, index = None, end + 1
        elif line.strip():
            side = _side_of_label(line.strip())
    return found


def _end_of_fence(lines: list[str], start: int, marks: str) -> int:
    """Index of the line that closes a fence, or the number of lines."""
    closing = re.compile(rf" {{0,3}}{marks[0]}{{{len(marks)},}}\s*")
    for index in range(start, len(lines)):
        if closing.fullmatch(lines[index]):
            return index
    return len(lines)


def _side_of_label(line: str) -> str | None:
    """``input``, ``output``, or None where a line is no label."""
    match = _LABEL.fullmatch(line) if len(line) <= _LABEL_CHARACTERS else None
    if match is None:
        return None
    return "input" if match["side"].lower() in ("输入", "input") else "output"
