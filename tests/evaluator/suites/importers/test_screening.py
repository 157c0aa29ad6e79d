"""Signs of what cannot be judged, and samples that are no data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.suites.importers.screening import (
    is_elided,
    split_note,
    why_no_test,
    why_not_judgeable,
)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("interactive", ["这是一道交互题。", "spj 与交互库", "请实现以下函数"]),
        ("interactive", ["你需要实现下面的函数：", "不是交互题。……这里有交互库"]),
        ("interactive", ["你需要实现 $4$ 个函数：`f`"]),
        ("interactive", ["This is an interactive problem.", "the interactor answers"]),
        ("answer-only", ["本题为提交答案题", "一道答案提交题", "命名为 gamex.out"]),
        ("answer-only", ["分别命名为 `1.txt` ~ `8.txt`", "This is an output-only task."]),
        (None, ["这不是交互题", "本题原为提交答案题", "请模拟交互过程", "请编写程序求函数值"]),
        (None, ["This is not an interactive problem", "This isn’t an interactive problem"]),
    ],
)
def test_signs_in_a_statement(kind, texts):
    """An answer-only problem can be judged by what a program prints where there is data."""
    for text in texts:
        for has_data in (False, True):
            found = why_not_judgeable(text, has_data=has_data)
            expected = None if has_data and kind == "answer-only" else kind
            assert (found and found.kind) == expected, text


@pytest.mark.parametrize(
    ("elided", "texts"),
    [
        (True, ["1\n...\n", "1 2 ... 9", "a …… b", "1\n....(太多了)", "1\n......\n2", "。。。"]),
        (True, ["（其余省略）", "1 2\n...\n", "192 384\n* * *\n...\n", "1\n... 5\n"]),
        (False, ["..#\n...\n", "4 3\n#.#\n...\n###\n", "3 3\n...\n...\n...\n", "1.5 2.\n", ""]),
        (False, ["wait...\n", ". . .\n# . .\n", "..........\n", "a.b..c", "Hello... world"]),
    ],
)
def test_elided_samples_are_told_from_drawings(elided, texts):
    assert [is_elided(text) for text in texts] == [elided] * len(texts)


@given(st.text("a1 \n…（注：）/.", max_size=40))
def test_a_split_loses_nothing(text):
    data, note = split_note(text)
    assert data + note == text
    assert not note or note.strip()


def test_samples_that_are_no_tests():
    assert why_no_test("1", "2") is None
    assert why_no_test("", "2") is None  # a program may read nothing
    pairs = {"answer-only": ("（无）\n", "1"), "elided": ("1", "..."), "no-output": ("1", " ")}
    pairs["prose"] = ("1", "很多")
    assert {kind: why_no_test(*pair).kind for kind, pair in pairs.items()} == {k: k for k in pairs}
