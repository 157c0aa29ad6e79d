"""Statements with samples inside: the DPO data set and upstream's failed extractions."""

import time

import pytest

from evaluator.suites.importers.statements import find_samples
from evaluator.suites.problem import Checker

CLASSES = {"P2838": "special-judge"}
CLASSES |= dict.fromkeys(("P1008", "P2682", "P3640", "P3798"), "answer-only")
CLASSES |= dict.fromkeys(("P1274", "P2593", "P3864"), "elided")
CLASSES |= dict.fromkeys(("P3641", "P3777", "P3840"), "interactive")


def statement(*samples, body="x", heading="# P1 甲"):
    text = f"{heading}\n\n## 题目描述\n\n{body}\n\n## 样例\n"
    for number, pair in enumerate(samples, start=1):
        inp, out = (f"```\n{side}\n```\n" for side in pair)
        text += f"\n### 样例 {number}\n\n**输入：**\n{inp}\n**输出：**\n{out}"
    return text


def conversation(text):
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "# P9 no"}]
    return {"conversations": turns, "chosen": {"value": "a"}, "rejected": {"value": "b"}}


def test_samples_become_tests_with_every_byte(write_rows, read):
    text = statement(("  1 2\n\n 3", " 3 \n\n"), ("4 5", "9"))
    problems, skipped = read(write_rows(conversation(text), conversation(text)))
    problem = problems["P1"]
    expected = [("  1 2\n\n 3\n", " 3 \n\n\n"), ("4 5\n", "9\n")]
    assert [(t.input, t.output) for t in problem.tests] == expected
    assert all(test.pretest for test in problem.tests)
    assert problem.title == "甲" and problem.statement == text and problem.prompt is None
    assert problem.checker == Checker()
    assert [(s.kind, s.reason) for s in skipped] == [("duplicate", "the same as line 1")]


@pytest.mark.parametrize(
    ("inp", "out"),
    [
        ("**输入：**", "**输出：**"),
        ("**输入**：", "**输出**："),
        ("**输入#1：**", "**输出#1：**"),
        ("### 输入 #1", "### 输出 #1"),
        ("#### 样例输入 1", "#### 样例输出 1"),
        ("输入样例1:", "输出样例1:"),
        ("输入数据 1", "输出数据 1"),
        ("样例 2 输入", "样例 2 输出"),
        ("## Sample Input", "## Sample Output"),
        ("Input:", "Output:"),
    ],
)
def test_labels(inp, out):
    text = f"# P1 x\n\n{inp}\n\n```\n1\n```\n\n{out}\n\n```\n2\n```\n"
    assert find_samples(text) == [("1\n", "2\n")]


@pytest.mark.parametrize(
    "label", ["## 输入格式", "## 输出格式", "输入两个数", "## 样例", "input file", "**说明：**"]
)
def test_other_fences_are_no_samples(label):
    assert find_samples(f"{label}\n```\n1\n```\n") == []


def test_fences():
    inp = "输入\n````cpp\n```\n1\n```\n````\n"
    assert find_samples(inp + "输出\n~~~\n2\n~~~\n") == [("```\n1\n```\n", "2\n")]
    # crlf; a text between label and fence; a fence that never ends; a pair that is none
    assert find_samples("输入\r\n```\r\n1\r\n```\r\n输出\r\n```\r\n2\r\n```\r\n") == [
        ("1\r\n", "2\r\n")
    ]
    assert find_samples("输入\nas follows\n```\n1\n```\n") == []
    assert find_samples("输入\n```\n1\n") == []
    two_inputs = "输入\n```\n1\n```\n输入\n```\n2\n```\n输出\n```\n3\n```\n输出\n```\n4\n```\n"
    assert find_samples(two_inputs) == [("1\n", None), ("2\n", "3\n"), (None, "4\n")]


def test_hostile_statements_take_no_time(write_rows, read):
    """Lines on which the patterns for labels and notes would try every way to split them."""
    label, note = "样例" + " " * 1500 + "x", "（" + "题" * 40_000
    rows = [{"prompt": statement((f"1\n{note}", "2"), body=f"{label}\n{'#' * 50_000}")}]
    path = write_rows(*rows)
    start = time.process_time()
    problems, [skipped] = read(path)
    assert time.process_time() - start < 1
    assert skipped.kind == "prose" and not problems


def test_half_samples_are_listed(write_rows, read):
    half = statement(("1", "2")) + "\n### 样例 2\n\n**输入：**\n```\n1\n```\n"
    problems, [skipped] = read(write_rows({"prompt": half}))
    assert len(problems["P1"].tests) == 1
    found = (skipped.test, skipped.kind, skipped.reason)
    assert found == ("2", "unreadable", "a sample without its output")


@pytest.mark.parametrize(
    ("sample", "kept"),
    [
        (("1\n（这是一封信，被和谐了……）", "2"), ("1\n", "2\n")),
        (("1", "21\n\n注：样例中，3场。"), ("1\n", "21\n")),
        (("1\n//以上为问题1", "2\n// two"), ("1\n", "2\n")),
        (("(1)", "（2）"), ("(1)\n", "（2）\n")),  # brackets, but nobody's remark
    ],
)
def test_notes_below_a_sample_are_no_data(write_rows, read, sample, kept):
    problems, _ = read(write_rows({"prompt": statement(sample)}))
    assert [(t.input, t.output) for t in problems["P1"].tests] == [kept]


def test_a_note_may_say_that_data_is_left_out(write_rows, read):
    path = write_rows({"prompt": statement(("1", "2\n（其余部分不予展示）"))})
    problems, [skipped] = read(path)
    assert (skipped.kind, skipped.reason) == ("elided", "test 1: a note says that data is left out")


def test_double_spaced_outputs_are_compared_by_tokens(write_rows, read):
    outputs = ("5\n\n3\n\n2\n\n//注", "5\n3\n\n2", "5\n\n3", "5\n\n\n3", "5")
    texts = [statement(("1", o), heading=f"# P{n} x") for n, o in enumerate(outputs, start=1)]
    problems, _ = read(write_rows(*({"prompt": text} for text in texts)))
    kinds = [problem.checker.kind for problem in problems.values()]
    assert kinds == ["tokens", "lines", "tokens", "lines", "lines"]
    assert problems["P1"].tests[0].output == "5\n\n3\n\n2\n"


def test_the_real_fourteen(shared_data, read):
    """Half of the rows are doubles; of the others each has its class or one test."""
    problems, skipped = read(shared_data / "failed_extraction.jsonl")
    others = [s for s in skipped if s.kind != "duplicate"]
    assert {s.id: s.kind for s in others} == CLASSES
    assert (len(others), len(skipped)) == (len(CLASSES), 14 + len(CLASSES))
    kept = {p.id: p.checker.kind for p in problems.values() if len(p.tests) == 1}
    assert kept == {"P2112": "lines", "P2686": "lines", "P3245": "tokens"}
    assert len(problems) == len(kept)


@pytest.mark.parametrize(
    "values",
    [{"conversations": []}, {"conversations": ["x"]}, {"conversations": [{"from": "human"}]}]
    + [{"prompt": 5}, {"conversations": [{"from": "system", "value": "x"}]}],
)
def test_rows_without_a_statement_are_listed(write_rows, read, values):
    problems, [skipped] = read(write_rows(values, {"prompt": statement(("1", "2"))}))
    assert list(problems) == ["P1"] and skipped.kind == "unreadable"
    assert "line 1: expected a string in 'conversations" in skipped.reason
