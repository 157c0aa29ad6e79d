"""What a problem family is: statement templates, parameters, a program with its likely slips.

A family's ``body`` is C++ with ``$name`` parameters and *slips* marked ``«right¦wrong¦wrong»``.
Reading every slip as ``right`` gives the reference solution; reading one as one of its wrongs
gives a plausible wrong program. ``«L:right¦wrong»`` carries a letter: all slips of one letter are
made together (a type and its printf format). ``solve`` computes the answer a second time, in
Python and independently of the C++.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from string import Template
from types import SimpleNamespace
from typing import Any, NamedTuple

SLIP = re.compile(r"«(?:([A-Z]):)?([^«»]*)»")


class Text(NamedTuple):
    """One wording in both languages."""

    zh: str
    en: str


class Form(NamedTuple):
    """How a test's input is laid out, in words and as text."""

    words: Text
    render: Callable[[Any], str]


@dataclass(frozen=True)
class Family:
    """A family of problems that differ in their parameters and wording.

    Attributes:
        key: the family's name.
        title: heading of the statement.
        story: the task, with ``$parameter`` and ``$who`` placeholders.
        form: layout of the input.
        params: the values each parameter may take.
        body: the statements of ``main``, with parameters and slips.
        draw: makes one random input (data, not text) for given parameters.
        solve: the answer to an input, in Python.
        answer: one of ``ANSWERS``.
        headers: further standard headers that the body needs.
        checker: C++ source of a special judge, for answers that are not unique.
        tolerance: judge numbers to this absolute error instead of as text.
        valid: says whether parameters go together.
    """

    key: str
    title: Text
    story: Text
    form: Form
    params: Mapping[str, Sequence[int | str]]
    body: str
    draw: Callable[[Random, SimpleNamespace], Any]
    solve: Callable[[SimpleNamespace, Any], Any]
    answer: str = "int"
    headers: tuple[str, ...] = ()
    checker: str | None = None
    tolerance: float | None = None
    valid: Callable[[SimpleNamespace], bool] = lambda p: True

    def variants(self) -> list[SimpleNamespace]:
        """All parameter choices, in a fixed order."""
        names = list(self.params)
        chosen = (
            SimpleNamespace(**dict(zip(names, values, strict=True)))
            for values in itertools.product(*self.params.values())
        )
        return [p for p in chosen if self.valid(p)]

    def slips(self) -> list[dict[int, str]]:
        """Every way to go wrong once: which slips are made (by position) and how."""
        groups: dict[str, dict[int, list[str]]] = {}
        for position, (letter, text) in enumerate(SLIP.findall(self.body)):
            groups.setdefault(letter or str(position), {})[position] = text.split("¦")[1:]
        return [
            {position: wrongs[choice] for position, wrongs in group.items()}
            for group in groups.values()
            for choice in range(len(next(iter(group.values()))))
        ]

    def program(
        self, p: SimpleNamespace, slips: Mapping[int, str] | None = None, io: str = "cstdio"
    ) -> str:
        """The C++ program for parameters ``p``, with the given slips made (none: the reference)."""
        made = slips or {}
        counter = itertools.count()

        def read(match: re.Match[str]) -> str:
            return made.get(next(counter), match[2].split("¦")[0])

        body = Template(SLIP.sub(read, self.body)).substitute(vars(p))
        headers = "".join(f"#include <{h}>\n" for h in (io, *self.headers))
        using = "using namespace std;\n" if self.headers else ""
        return f"{headers}{using}int main() {{\n{_indented(body)}    return 0;\n}}\n"

    def answer_text(self, p: SimpleNamespace, data: Any) -> str:
        """The expected output for one input, by the Python solution."""
        value = self.solve(p, data)
        if isinstance(value, bool):
            value = "YES" if value else "NO"
        elif isinstance(value, float):
            value = f"{value:.3f}"
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        return f"{value}\n"

    def statement(
        self, p: SimpleNamespace, language: str, number: str, who: str, sample: tuple[str, str]
    ) -> str:
        """The statement as the model reads it: Markdown in Luogu's manner, with one sample."""
        words = SECTIONS[language]
        pick = 0 if language == "zh" else 1
        story = Template(self.story[pick]).substitute(vars(p), who=who)
        return (
            f"# {number} {self.title[pick]}\n\n{story}\n\n"
            f"## {words[0]}\n{self.form.words[pick]}\n\n## {words[1]}\n{ANSWERS[self.answer][pick]}"
            f"\n\n## {words[2]}\n```\n{sample[0]}```\n```\n{sample[1]}```\n"
        )


def _indented(body: str) -> str:
    """Indents by braces, and one step more under a ``for``, ``if`` or ``else`` without them."""
    blocks, depth, lines = [], 1, []
    for line in filter(None, map(str.strip, body.splitlines())):
        if line.startswith("}"):
            depth = blocks.pop()
        lines.append("    " * depth + line + "\n")
        if line.endswith("{"):
            blocks.append(depth if len(blocks) == 0 or not line.startswith("}") else depth)
            depth += 1
        elif line.startswith(("for (", "if (", "while (", "else")) and not line.endswith(";"):
            depth += 1
        else:
            depth = 1 + len(blocks)
    return "".join(lines)


SECTIONS = {"zh": ("输入格式", "输出格式", "样例"), "en": ("Input", "Output", "Sample")}
NAMES = {
    "zh": ("阿宁", "小舟", "老周", "米粒", "阿福", "朵朵", "石头", "小雨"),
    "en": ("Nina", "Omar", "Lena", "Tao", "Ravi", "Mia", "Piet", "Zoe"),
}
ANSWERS = {
    "int": Text("一个整数。", "One integer."),
    "two": Text("两个整数。", "Two integers."),
    "list": Text("若干整数，用空格隔开。", "The integers, separated by spaces."),
    "yesno": Text("YES 或 NO。", "YES or NO."),
    "word": Text("一个字符串。", "One word."),
    "real": Text("一个实数，误差不超过 0.01。", "A real number, within 0.01."),
    "any": Text("任意一个答案；没有则输出 -1。", "Any answer; -1 if there is none."),
}
