"""Calls of freopen, taken out of a program."""

import pytest

from evaluator.judging.cpp_text import strip_freopen


@pytest.mark.parametrize(
    ("call", "left"),
    [
        ('freopen("a.in", "r", stdin)', "stdin"),
        ('freopen("a,(;.in","r" , stdin )', "stdin"),
        ('freopen((name + ".in").c_str(), "r", stdin)', "stdin"),
        (':: freopen ("a\\"", "w", ::stdout)', "::stdout"),
        ("freopen(a, b, c), freopen(d, e, f)", "c, f"),
        ("ifreopen(a, b, c)", "ifreopen(a, b, c)"),
        ("FILE* freopen;", "FILE* freopen;"),
    ],
)
def test_call_of_freopen_becomes_its_stream(call, left):
    assert strip_freopen(f"x = {call};") == f"x = {left};"
