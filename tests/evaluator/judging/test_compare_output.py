"""Comparison rules."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.judging.compare_output import compare_output
from evaluator.suites.problem import Checker

compare_lines, compare_exact, compare_tokens = (
    partial(compare_output, Checker(kind)) for kind in ("lines", "exact", "tokens")
)

TEXTS = st.lists(st.sampled_from([b"a", b"b", b" ", b"\t", b"\r", b"\n", b"\0", b"\xff"])).map(
    b"".join
)


def is_right(difference):
    return difference is None


@pytest.mark.parametrize(
    ("output", "answer", "same"),
    [
        (b"1 2  \r\n3\n\n\n", b"1 2\n3", True),
        (b"1\n  \n", b"1", True),
        (b"\r\n", b"", True),
        (b" 1\n", b"1\n", False),
        (b"1  2\n", b"1 2\n", False),
        (b"1\t\n", b"1\n", False),
        (b"\xff\x00\n", b"\xff\x00", True),
        (b"1\x00\n", b"1\n", False),
    ],
)
def test_lines(output, answer, same):
    assert is_right(compare_lines(output, answer)) is same


def slow_lines(text: bytes) -> list[bytes]:
    """Luogu's rule, spelled character by character."""
    lines, line = [], b""
    for byte in text:
        if byte == ord("\n"):
            lines.append(line)
            line = b""
        else:
            line += bytes([byte])
    lines.append(line)
    cleaned = []
    for line in lines:
        while line[-1:] in (b" ", b"\r"):
            line = line[:-1]
        cleaned.append(line)
    while cleaned and cleaned[-1] == b"":
        del cleaned[-1]
    return cleaned


@given(TEXTS, TEXTS)
def test_lines_against_the_slow_rule(a, b):
    assert is_right(compare_lines(a, b)) is (slow_lines(a) == slow_lines(b))
    assert is_right(compare_lines(a, b)) is is_right(compare_lines(b, a))


@given(TEXTS, TEXTS)
def test_exact_and_tokens(a, b):
    assert is_right(compare_exact(a, b)) is (a == b)
    assert is_right(compare_tokens(a, b)) is (a.split() == b.split())


@pytest.mark.parametrize(
    ("output", "answer", "tolerance", "same"),
    [
        (b"0.333333", b"0.33333333", 1e-6, True),
        (b"0.3333", b"0.33333333", 1e-6, False),
        (b"1000000.5", b"1000000", 1e-6, True),
        (b"1000002", b"1000000", 1e-6, False),
        (b"-1", b"1", 1.9, False),
        (b"1e3", b"1000", 0, True),
        (b"nan", b"1", 1e9, False),
        (b"nan", b"nan", 1e-6, True),
        (b"inf", b"1e999", 1, False),
        (b"1_0", b"10", 1, False),
        (b"Yes 1.0", b"Yes 1", 1e-6, True),
        (b"1 2", b"1", 1e-6, False),
    ],
)
def test_floats(output, answer, tolerance, same):
    assert is_right(compare_output(Checker("float", tolerance), output, answer)) is same


@pytest.mark.parametrize(
    ("output", "answer", "error", "same"),
    [
        (b"1000000.5", b"1000000", "relative", True),
        (b"1000000.5", b"1000000", "absolute", False),
        (b"0.0000005", b"0", "absolute", True),
        (b"0.0000005", b"0", "relative", False),
        (b"0.0010005", b"0.001", "absolute", True),
        (b"0.0010005", b"0.001", "relative", False),
        (b"-2.0000005", b"-2", "relative", True),
        (b"2", b"-2", "relative", False),
    ],
)
def test_one_kind_of_error_may_be_what_counts(output, answer, error, same):
    assert is_right(compare_output(Checker("float", 1e-6, error=error), output, answer)) is same


@pytest.mark.parametrize(
    ("output", "answer", "same"),
    [
        (b"YES\nno", b"Yes\nNO\n", True),
        (b"yes  No", b"YES\nNO", True),
        (b"yes", b"no", False),
        ("É".encode(), "é".encode(), False),  # letters of ASCII alone
    ],
)
def test_caseless_tokens(output, answer, same):
    assert is_right(compare_output(Checker("caseless"), output, answer)) is same
    assert is_right(compare_output(Checker("caseless"), answer, output)) is same


@pytest.mark.parametrize(
    ("checker", "detail"),
    [
        (Checker("lines"), "line 2: expected '3', found '4'"),
        (Checker("exact"), "byte 5: expected '3\\n', found '4\\n'"),
        (Checker("tokens"), "token 3: expected '3', found '4'"),
        (Checker("float", 0.1), "token 3: expected '3', found '4'"),
    ],
)
def test_details_name_the_first_difference(checker, detail):
    comparison = compare_output(checker, b"1 2\n4\n", b"1 2\n3\n")
    assert comparison == detail


@pytest.mark.parametrize(
    ("output", "answer", "detail"),
    [
        (b"1\n", b"1\n2\n", "line 2: expected '2', found the end of the output"),
        (b"1\n2\n", b"1\n", "line 2: expected no more lines, found '2'"),
        (b"1\n\n2\n", b"1\n2\n", "line 2: expected '2', found an empty line"),
        (b"\xff\0\n", "中\n".encode(), "line 1: expected '中', found '\\xff\\x00'"),
    ],
)
def test_details_say_what_a_person_would_see(output, answer, detail):
    assert compare_lines(output, answer) == detail


@given(TEXTS, TEXTS, st.integers(0, 300))
def test_details_show_the_difference_in_bounded_text(a, b, before):
    """Two lines that differ far from their beginning are shown where they differ."""
    same = "中".encode() * before
    comparison = compare_lines(same + b"1" + a, same + b"2" + b)
    expected, found = comparison.split(", found ")
    assert "2" in expected.partition(": expected ")[2] and "1" in found
    assert len(comparison) < 700 and comparison.isprintable()
