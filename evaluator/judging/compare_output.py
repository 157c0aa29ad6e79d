r"""Holding an output against the answer, byte by byte.

``lines`` is Luogu's rule: trailing spaces and ``\r`` of a line and trailing newlines of the file
do not count; leading spaces and tabs do.
"""

import math
import re
from itertools import zip_longest
from os.path import commonprefix

from evaluator.suites.problem import DEFAULT_TOLERANCE, Checker

_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_SHOWN = 60


def compare_output(checker: Checker, output: bytes, answer: bytes) -> str | None:
    """Give the first difference by the checker's rule in words, or None.

    ``float`` compares numbers up to an absolute error, ``|found - expected|``, or a relative one,
    that divided by ``|expected|``; where the checker does not say which, either may be small.
    """
    if output == answer:
        return None
    if checker.kind == "exact":
        same = len(commonprefix((output, answer)))
        found, wanted = _shown(output[same:]), _shown(answer[same:])
        return f"byte {same + 1}: expected {wanted}, found {found}"
    if checker.kind == "lines":
        return _first_difference("line", _lines(output), _lines(answer))
    if checker.kind == "caseless":
        output, answer = output.lower(), answer.lower()
    tokens, expected = output.split(), answer.split()
    if checker.kind == "float":
        pairs = zip(tokens, expected, strict=False)
        close = [b if _close(checker, a, b) else a for a, b in pairs]
        tokens = close + tokens[len(expected) :]
    return _first_difference("token", tokens, expected)


def _lines(text: bytes) -> list[bytes]:
    """Split into lines without what does not count at their ends and at the file's end."""
    lines = [line.rstrip(b" \r") for line in text.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _close(checker: Checker, found: bytes, wanted: bytes) -> bool:
    """Whether two tokens are equal, or numbers that are close; NaN is close to nothing."""
    if found == wanted:
        return True
    if not (_NUMBER.fullmatch(found) and _NUMBER.fullmatch(wanted)):
        return False
    a, b = float(found), float(wanted)
    if math.isinf(a) or math.isinf(b):  # larger than can be compared
        return False
    scale = {"absolute": 1.0, "relative": abs(b), None: max(1.0, abs(b))}[checker.error]
    tolerance = DEFAULT_TOLERANCE if checker.tolerance is None else checker.tolerance
    return abs(a - b) <= tolerance * scale


def _first_difference(unit: str, found: list[bytes], wanted: list[bytes]) -> str | None:
    if found == wanted:
        return None
    pairs = enumerate(zip_longest(found, wanted), start=1)
    place, (a, b) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    same = len(commonprefix((a or b"", b or b"")))
    start = 0 if same < _SHOWN // 2 else same - _SHOWN // 3  # so that the difference is seen
    expected = f"no more {unit}s" if b is None else _shown(b, start) if b else "an empty line"
    seen = "the end of the output" if a is None else _shown(a, start) if a else "an empty line"
    return f"{unit} {place}: expected {expected}, found {seen}"


def _shown(part: bytes, start: int = 0) -> str:
    """Show a bounded part of a text; what is not UTF-8 is shown as bytes."""
    if not part:
        return "nothing"
    start, end = _character(part, start), _character(part, start + _SHOWN)
    shown = part[start:end]
    try:
        quoted = repr(shown.decode())
    except UnicodeDecodeError:
        quoted = repr(shown).removeprefix("b")
    return ("..." if start else "") + quoted + ("..." if end < len(part) else "")


def _character(part: bytes, place: int) -> int:
    """Move a place back to where a UTF-8 character begins, if there may be one."""
    for begin in range(min(place, len(part)), max(place - 4, -1), -1):
        if begin >= len(part) or part[begin] & 0xC0 != 0x80:
            return begin
    return place
