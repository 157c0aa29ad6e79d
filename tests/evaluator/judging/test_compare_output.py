"""Comparison rules."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.judging.compare_output import compare_output
from evaluator.suites.problem import Checker

LINES, EXACT, TOKENS, CASELESS = map(Checker, ("lines", "exact", "tokens", "caseless"))
FLOAT = Checker("float", 1e-6)
ABSOLUTE, RELATIVE = (Checker("float", 1e-6, error=error) for error in ("absolute", "relative"))
TEXTS = st.lists(st.sampled_from([b"a", b"b", b" ", b"\t", b"\r", b"\n", b"\0", b"\xff"])).map(
    b"".join
)


@pytest.mark.parametrize(
    ("checker", "output", "answer", "same"),
    [
        (LINES, b"1 2  \r\n3\n\n\n", b"1 2\n3", True),
        (LINES, b"1\n  \n", b"1", True),
        (LINES, b"\r\n", b"", True),
        (LINES, b" 1\n", b"1\n", False),
        (LINES, b"1  2\n", b"1 2\n", False),
        (LINES, b"1\t\n", b"1\n", False),
        (LINES, b"\xff\x00\n", b"\xff\x00", True),
        (LINES, b"1\x00\n", b"1\n", False),
        (CASELESS, b"YES\nno", b"Yes\nNO\n", True),
        (CASELESS, b"yes  No", b"YES\nNO", True),
        (CASELESS, b"yes", b"no", False),
        (CASELESS, "É".encode(), "é".encode(), False),  # letters of ASCII alone
        (FLOAT, b"0.333333", b"0.33333333", True),
        (FLOAT, b"0.3333", b"0.33333333", False),
        (FLOAT, b"1000000.5", b"1000000", True),
        (FLOAT, b"1000002", b"1000000", False),
        (Checker("float", 1.9), b"-1", b"1", False),
        (Checker("float", 0), b"1e3", b"1000", True),
        (Checker("float", 1e9), b"nan", b"1", False),
        (FLOAT, b"nan", b"nan", True),
        (Checker("float", 1), b"inf", b"1e999", False),
        (Checker("float", 1), b"1e999", b"2e999", False),
        (Checker("float", 1), b"1_0", b"10", False),
        (FLOAT, b"Yes 1.0", b"Yes 1", True),
        (FLOAT, b"1 2", b"1", False),
        (RELATIVE, b"1000000.5", b"1000000", True),
        (ABSOLUTE, b"1000000.5", b"1000000", False),
        (ABSOLUTE, b"0.0000005", b"0", True),
        (RELATIVE, b"0.0000005", b"0", False),
        (ABSOLUTE, b"0.0010005", b"0.001", True),
        (RELATIVE, b"0.0010005", b"0.001", False),
        (RELATIVE, b"-2.0000005", b"-2", True),
        (RELATIVE, b"2", b"-2", False),
    ],
)
def test_rules(checker, output, answer, same):
    assert (compare_output(checker, output, answer) is None) is same


def plain_lines(text: bytes) -> bytes:
    """Luogu's rule, by patterns."""
    return re.sub(rb"\n+\Z", b"", re.sub(rb"[ \r]+(?=\n|\Z)", b"", text))


@given(TEXTS, TEXTS)
def test_rules_for_any_text(a, b):
    for checker, same in (
        (LINES, plain_lines(a) == plain_lines(b)),
        (EXACT, a == b),
        (TOKENS, a.split() == b.split()),
    ):
        assert (compare_output(checker, a, b) is None) is same
        assert (compare_output(checker, b, a) is None) is same


@pytest.mark.parametrize(
    ("checker", "output", "answer", "detail"),
    [
        (LINES, b"1 2\n4\n", b"1 2\n3\n", "line 2: expected '3', found '4'"),
        (EXACT, b"1 2\n4\n", b"1 2\n3\n", "byte 5: expected '3\\n', found '4\\n'"),
        (TOKENS, b"1 2\n4\n", b"1 2\n3\n", "token 3: expected '3', found '4'"),
        (FLOAT, b"1 2\n4\n", b"1 2\n3\n", "token 3: expected '3', found '4'"),
        (FLOAT, b"1 2", b"1.0 2 3.0", "token 3: expected '3.0', found the end of the output"),
        (FLOAT, b"1.00 2.0 3", b"1.0 2.0", "token 3: expected no more tokens, found '3'"),
        (LINES, b"1\n", b"1\n2\n", "line 2: expected '2', found the end of the output"),
        (LINES, b"1\n2\n", b"1\n", "line 2: expected no more lines, found '2'"),
        (LINES, b"1\n\n2\n", b"1\n2\n", "line 2: expected '2', found an empty line"),
        (LINES, b"\xff\0\n", "中\n".encode(), "line 1: expected '中', found '\\xff\\x00'"),
    ],
)
def test_details_name_the_first_difference(checker, output, answer, detail):
    assert compare_output(checker, output, answer) == detail


@given(TEXTS, TEXTS, st.integers(0, 300))
def test_details_show_the_difference_in_bounded_text(a, b, before):
    """Two lines that differ far from their beginning are shown where they differ."""
    same = "中".encode() * before
    comparison = compare_output(LINES, same + b"1" + a, same + b"2" + b)
    expected, found = comparison.split(", found ")
    assert "2" in expected.partition(": expected ")[2] and "1" in found
    assert len(comparison) < 700 and comparison.isprintable()
