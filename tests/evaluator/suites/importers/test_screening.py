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


def kind(statement, has_data=False):
    reason = why_not_judgeable(statement, has_data=has_data)
    return None if reason is None else reason.kind


@pytest.mark.parametrize(
    "text",
    ["这是一道交互题。", "spj 与交互库", "你需要实现下面的函数：", "你需要实现 $4$ 个函数：`f`"]
    + ["This is an interactive problem.", "the interactor answers", "请实现以下函数"],
)
def test_interactive(text):
    assert kind(text) == kind(text, has_data=True) == "interactive"


@pytest.mark.parametrize(
    "text",
    ["本题为提交答案题", "一道答案提交题", "分别命名为 `1.txt` ~ `8.txt`", "命名为 gamex.out"]
    + ["This is an output-only task."],
)
def test_answers_can_be_printed_where_there_is_data(text):
    assert kind(text) == "answer-only"
    assert kind(text, has_data=True) is None


@pytest.mark.parametrize(
    "text",
    ["这不是交互题", "本题原为提交答案题", "This is not an interactive problem", "请模拟交互过程"]
    + ["This isn't an interactive problem", "This isn’t an interactive problem"]
    + ["请编写程序求函数值", "请你编写程序实现这个过程"],
)
def test_words_alike(text):
    assert kind(text) is None


def test_one_plain_sign_counts_beside_a_negated_one():
    assert kind("不是交互题。……这里有交互库") == "interactive"


@pytest.mark.parametrize(
    "text",
    ["1\n...\n", "1 2 ... 9", "a …… b", "1\n....(太多了)", "1\n......\n2", "（其余省略）", "。。。"]
    + ["1 2\n...\n", "192 384\n* * *\n...\n", "1\n... 5\n"],
)
def test_elided(text):
    assert is_elided(text)


@pytest.mark.parametrize(
    "text",
    ["..#\n...\n", "4 3\n#.#\n...\n###\n", "3 3\n...\n...\n...\n", "1.5 2.\n", "wait...\n", ""]
    + [". . .\n# . .\n", "..........\n", "a.b..c", "Hello... world"],
)
def test_not_elided(text):
    assert not is_elided(text)


@given(st.text("a1 \n…（注：）/.", max_size=40))
def test_a_split_loses_nothing(text):
    data, note = split_note(text)
    assert data + note == text
    assert not note or note.strip()


def test_samples_that_are_no_tests():
    assert why_no_test("1", "2") is None
    assert why_no_test("", "2") is None  # a program may read nothing
    assert [why_no_test(*pair).kind for pair in (("（无）\n", "1"), ("无", "..."), ("1", " "))] == [
        "answer-only",
        "answer-only",
        "no-output",
    ]
