"""How models mark the reasoning before their answer."""

import re

_NAMES = "(?:think|thinking|thought|thoughts|reasoning|analysis)"
_MARKS = (  # what begins it, what ends it
    (f"<{_NAMES}>", f"</{_NAMES}>"),
    (r"\[THINK\]", r"\[/THINK\]"),
    ("◁think▷", "◁/think▷"),
    (r"<\|channel\|>analysis<\|message\|>", r"<\|channel\|>final<\|message\|>"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
)
_BEGIN, _END = ("|".join(marks) for marks in zip(*_MARKS, strict=True))

REASONING_END = re.compile(_END, re.IGNORECASE)
# The prompt may have begun it: what ends it then stands alone.
REASONING = re.compile(rf"(?:{_BEGIN}).*?(?:{_END}|\Z)|\A.*(?:{_END})", re.IGNORECASE | re.DOTALL)
BEGUN_REASONING = re.compile(rf"(?:{_BEGIN})\s*\Z", re.IGNORECASE)
