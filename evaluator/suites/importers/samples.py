"""Samples inside a statement: a label, a fenced block, for the input and for the output.

The labels that occur are ``**输入：**``, ``**输入#1：**``, ``### 输入 #1``, ``#### 样例输入 1``,
``输入样例：``, ``输入数据 1``, ``Sample Input``.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_LABEL = re.compile(
    r"#{0,6}\s*\**\s*(?:样例|示例|sample|example)?\s*#?\s*\d*\s*"
    r"(?P<side>输入|输出|input|output)"
    r"\s*(?:样例|示例|数据)?\s*#?\s*\d*\s*[:：]?\s*\**\s*[:：]?",
    re.IGNORECASE,
)
_LABEL_CHARACTERS = 40  # bounds what the pattern's many stars can cost on a hostile line
_FENCE = re.compile(r" {0,3}(?P<marks>`{3,}|~{3,})[^`]*")


class Sample(NamedTuple):
    """One sample, every byte between the fences; None where a side has no other beside it."""

    input: str | None
    output: str | None


def find_samples(statement: str) -> tuple[Sample, ...]:
    """Find the labelled samples of a statement, in its order."""
    samples: list[Sample] = []
    for is_input, text in _labelled_blocks(statement):
        if is_input:
            samples.append(Sample(text, None))
        elif samples and samples[-1].output is None:
            samples[-1] = Sample(samples[-1].input, text)
        else:
            samples.append(Sample(None, text))
    return tuple(samples)


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
