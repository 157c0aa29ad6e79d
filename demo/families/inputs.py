"""Layouts of inputs, and how random inputs are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from types import SimpleNamespace

from demo.families.core import Form, Text


def _row(values: Sequence[object]) -> str:
    return " ".join(map(str, values)) + "\n"


ONE = Form(Text("一个整数 n。", "One integer n."), lambda d: _row([d]))
TWO = Form(Text("两个整数 a 和 b。", "Two integers a and b."), _row)
INTS = Form(
    Text("第一行一个整数 n，第二行 n 个整数。", "An integer n, then n integers."),
    lambda d: _row([len(d)]) + _row(d),
)
PAIRS = Form(
    Text(
        "第一行一个整数 n，接下来 n 行每行两个整数。", "An integer n, then n lines of two integers."
    ),
    lambda d: _row([len(d)]) + "".join(map(_row, d)),
)
GRID = Form(
    Text("第一行 n 和 m，接下来 n 行每行 m 个整数。", "n and m, then n rows of m integers."),
    lambda d: _row([len(d), len(d[0])]) + "".join(map(_row, d)),
)
MAP = Form(
    Text("第一行 n 和 m，接下来 n 行每行 m 个字符。", "n and m, then n rows of m characters."),
    lambda d: _row([len(d), len(d[0])]) + "".join(row + "\n" for row in d),
)
WORD = Form(Text("一个字符串 s。", "One word s."), lambda d: d + "\n")
WORDS = Form(Text("两个等长的字符串。", "Two words of equal length."), _row)


def value(rng: Random, p: SimpleNamespace, low: int, high: int) -> int:
    """A number of ``[low, high]``, one time in three at or next to a parameter."""
    near = [v + d for v in vars(p).values() if isinstance(v, int) for d in (-1, 0, 1)]
    near = [v for v in near if low <= v <= high]
    if near and rng.random() < 0.35:
        return rng.choice(near)
    if high > 1000 and rng.random() < 0.5:
        high = 99
    return rng.randint(low, high)


def one(low: int, high: int) -> Callable[[Random, SimpleNamespace], int]:
    """Draws one number."""
    return lambda rng, p: value(rng, p, low, high)


def two(
    low: int, high: int, low2: int | None = None, high2: int | None = None
) -> Callable[[Random, SimpleNamespace], tuple[int, int]]:
    """Draws two numbers, the second from its own range where one is given."""
    low2, high2 = (low if low2 is None else low2), (high if high2 is None else high2)
    return lambda rng, p: (value(rng, p, low, high), value(rng, p, low2, high2))


def ints(low: int, high: int, most: int = 8) -> Callable[[Random, SimpleNamespace], list[int]]:
    """Draws one to ``most`` numbers."""
    return lambda rng, p: [value(rng, p, low, high) for _ in range(rng.randint(1, most))]


def pairs(
    low: int, high: int, ordered: bool = False
) -> Callable[[Random, SimpleNamespace], list[list[int]]]:
    """Draws one to five pairs, the smaller number first where ``ordered``."""

    def draw(rng: Random, p: SimpleNamespace) -> list[list[int]]:
        rows = [[value(rng, p, low, high) for _ in "ab"] for _ in range(rng.randint(1, 5))]
        return [sorted(row) for row in rows] if ordered else rows

    return draw


def grid(
    low: int, high: int, square: bool = False
) -> Callable[[Random, SimpleNamespace], list[list[int]]]:
    """Draws a grid with sides of one to four."""

    def draw(rng: Random, p: SimpleNamespace) -> list[list[int]]:
        n = rng.randint(1, 4)
        m = n if square else rng.randint(1, 4)
        return [[value(rng, p, low, high) for _ in range(m)] for _ in range(n)]

    return draw


def word(letters: str, most: int = 9) -> Callable[[Random, SimpleNamespace], str]:
    """Draws a word of one to ``most`` letters, half of the time from few letters."""

    def draw(rng: Random, p: SimpleNamespace) -> str:
        named = [v for v in vars(p).values() if isinstance(v, str) and v in letters]
        few = [*named, rng.choice(letters), rng.choice(letters)]
        pool = few if rng.random() < 0.5 else letters
        return "".join(rng.choice(pool) for _ in range(rng.randint(1, most)))

    return draw
