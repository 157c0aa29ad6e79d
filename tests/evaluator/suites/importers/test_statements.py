"""Statements with samples inside: the DPO data set and upstream's failed extractions."""

import json
import time

import pytest

from evaluator.suites.importers.samples import Sample, find_samples
from evaluator.suites.problem import Checker

CLASSES = {
    "P1008": "answer-only",
    "P1274": "elided",
    "P2593": "elided",
    "P2682": "answer-only",
    "P2838": "special-judge",
    "P3640": "answer-only",
    "P3641": "interactive",
    "P3777": "interactive",
    "P3798": "answer-only",
    "P3840": "interactive",
    "P3864": "elided",
}


def statement(*samples, body="x", heading="# P1 甲"):
    parts = [f"{heading}\n\n## 题目描述\n\n{body}\n\n## 样例\n"]
    for number, (inp, out) in enumerate(samples, start=1):
        parts.append(
            f"### 样例 {number}\n\n**输入：**\n```\n{inp}\n```\n\n**输出：**\n```\n{out}\n```\n"
        )
    return "\n".join(parts)


def conversation(text):
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "# P9 no"}]
    return {"conversations": turns, "chosen": {"value": "a"}, "rejected": {"value": "b"}}


def test_samples_become_tests_with_every_byte(write_rows, read):
    text = statement(("  1 2\n\n 3", " 3 \n\n"), ("4 5", "9"))
    problems, skipped = read(write_rows(conversation(text), conversation(text)))
    problem = problems["P1"]
    assert [(t.input, t.output) for t in problem.tests] == [
        ("  1 2\n\n 3\n", " 3 \n\n\n"),
        ("4 5\n", "9\n"),
    ]
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
    assert find_samples(text) == (Sample("1\n", "2\n"),)


@pytest.mark.parametrize(
    "label", ["## 输入格式", "## 输出格式", "输入两个数", "## 样例", "input file", "**说明：**"]
)
def test_other_fences_are_no_samples(label):
    assert find_samples(f"{label}\n```\n1\n```\n") == ()


def test_fences():
    inp = "输入\n````cpp\n```\n1\n```\n````\n"
    assert find_samples(inp + "输出\n~~~\n2\n~~~\n") == (Sample("```\n1\n```\n", "2\n"),)
    # crlf; a text between label and fence; a fence that never ends; a pair that is none
    assert find_samples("输入\r\n```\r\n1\r\n```\r\n输出\r\n```\r\n2\r\n```\r\n") == (
        Sample("1\r\n", "2\r\n"),
    )
    assert find_samples("输入\nas follows\n```\n1\n```\n") == ()
    assert find_samples("输入\n```\n1\n") == ()
    two_inputs = "输入\n```\n1\n```\n输入\n```\n2\n```\n输出\n```\n3\n```\n输出\n```\n4\n```\n"
    assert find_samples(two_inputs) == (
        Sample("1\n", None),
        Sample("2\n", "3\n"),
        Sample(None, "4\n"),
    )


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
    assert (skipped.test, skipped.kind, skipped.reason) == (
        "2",
        "unreadable",
        "a sample without its output",
    )


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
    rows = [
        statement(("1", out), heading=f"# P{n} x")
        for n, out in enumerate(
            ("5\n\n3\n\n2\n\n//注", "5\n3\n\n2", "5\n\n3", "5\n\n\n3", "5"), start=1
        )
    ]
    problems, _ = read(write_rows(*({"prompt": row} for row in rows)))
    kinds = [problem.checker.kind for problem in problems.values()]
    assert kinds == ["tokens", "lines", "tokens", "lines", "lines"]
    assert problems["P1"].tests[0].output == "5\n\n3\n\n2\n"


# the shapes of the real list, one each, with nothing of its texts
SHAPES = {
    "P1008": statement(("无", "1 2\n* *\n...\n（剩余部分不予展示）"), body="本题为提交答案题。"),
    "P1274": statement(("1 1", "1 2 \n3 4 \n\n……剩余9组解省略")),
    "P2112": statement(("4 2\na bb c d\n（本来是一封信，没了……）", "1.0"), body="排版"),
    "P2593": statement(("1\n\n2 4 0 …… 0（一共8个0）", "Yes\n\nNo")),
    "P2682": statement(("例：一个程序\n1 1\nin", "解释：\n两行"), body="本题为提交答案题。"),
    "P2686": statement(("3 4 5\n1 3 3", "21\n\n注：选1，2两题。")),
    "P2838": statement(("2\n// 仅作参考", "I\nC 1\n（可以进行x+1！）"), body="这是一道非传统题。"),
    "P3245": statement(("11\n1 6", "5\n\n3\n\n2\n\n//第一个询问")),
    "P3640": statement(
        ("3\n//以上为问题1", "3"), body="把数据命名为 `1.txt` ~ `8.txt`。感谢某某修改spj"
    ),
    "P3641": "# P3641 乙\n\n你需要实现一个函数 `f(T)`，它可以调用交互库。",
    "P3777": "# P3777 丙\n\n在这个任务中，你需要实现 $4$ 个函数。",
    "P3798": statement(("样例任务:\n n=2。请输出一个整数", "16"), body="本题目为提交答案题。"),
    "P3840": statement(("n = 4\nu = [0]", "一个可能的输出：\n[0]"), body="你需要实现下面的函数："),
    "P3864": statement(("47\nABC\n....(太多了不写了)", "ABC")),
}


def check_the_fourteen(problems, skipped):
    """Half of the rows are doubles; of the others each has its class or one test."""
    doubles = [s for s in skipped if s.kind == "duplicate"]
    assert len(doubles) == 14
    assert {s.id: s.kind for s in skipped if s.kind != "duplicate"} == CLASSES
    assert len(skipped) == 14 + len(CLASSES)
    assert {p.id: (len(p.tests), p.checker.kind) for p in problems.values()} == {
        "P2112": (1, "lines"),
        "P2686": (1, "lines"),
        "P3245": (1, "tokens"),
    }


def test_the_shapes_of_the_fourteen(write_rows, read):
    rows = []
    for problem_id, text in SHAPES.items():
        prompt = "请解题:\n```cpp\n<your code here>\n```\n\n" + text.replace(
            "# P1 甲", f"# {problem_id} 甲"
        )
        rows += [{"prompt": prompt, "reason": "No valid samples"}] * 2
    check_the_fourteen(*read(write_rows(*rows)))


def test_the_real_fourteen(shared_data, read):
    """Also that the three tests are right: their answers are computed here, the slow way."""
    problems, skipped = read(shared_data / "failed_extraction.jsonl")
    check_the_fourteen(problems, skipped)
    tests = {problem.id: problem.tests[0] for problem in problems.values()}
    for problem_id, solve in (("P2112", letters), ("P2686", contests), ("P3245", multiples)):
        test = tests[problem_id]
        assert solve(test.input.split()) == [float(x) for x in test.output.split()], problem_id


def letters(words):
    """P2112 with two lines: the least variance of their lengths."""
    count, lines, *rest = words
    sizes = [len(word) for word in rest]
    assert (int(count), int(lines)) == (len(sizes), 2)
    pairs = [(sum(sizes[:cut]), sum(sizes[cut:])) for cut in range(1, len(sizes))]
    return [min(((a - b) / 2) ** 2 for a, b in pairs)]


def contests(words):
    """P2686: the best set of stretches of which none holds another."""
    n, low, high, *rest = map(int, words)
    lengths, values = rest[:n], rest[n:]
    assert len(values) == n
    ok = [(i, j) for i in range(n) for j in range(i, n) if low <= sum(lengths[i : j + 1]) <= high]

    def best(after):
        later = [s for s in ok if s[0] > after[0] and s[1] > after[1]]
        return max((sum(values[i : j + 1]) + best((i, j)) for i, j in later), default=0)

    return [best((-1, -1))]


def multiples(words):
    """P3245: substrings of a stretch that the prime divides."""
    p, digits, m, *rest = words
    assert len(rest) == 2 * int(m)
    answers = []
    for start, end in zip(map(int, rest[::2]), map(int, rest[1::2]), strict=True):
        s = digits[start - 1 : end]
        cuts = [(i, j) for i in range(len(s)) for j in range(i + 1, len(s) + 1)]
        answers.append(sum(int(s[i:j]) % int(p) == 0 for i, j in cuts))
    return answers


def test_real_statements_have_ids_in_the_other_form(shared_data, write_rows, read):
    """The real rows have no test cases; with one each, the screening of statements remains."""
    lines = (shared_data / "failed_extraction.jsonl").read_text("utf-8").splitlines()
    cases = {"test_cases": [{"input": "1", "output": "2"}]}
    problems, skipped = read(write_rows(*(json.loads(line) | cases for line in lines)))
    elided = {problem_id for problem_id, kind in CLASSES.items() if kind == "elided"}
    assert set(problems) == {"P2112", "P2686", "P3245"} | elided
    assert {s.id for s in skipped} == set(problems) | set(CLASSES)


@pytest.mark.parametrize(
    "values",
    [{"conversations": []}, {"conversations": ["x"]}, {"conversations": [{"from": "human"}]}]
    + [{"prompt": 5}, {"conversations": [{"from": "system", "value": "x"}]}],
)
def test_rows_without_a_statement_are_listed(write_rows, read, values):
    problems, [skipped] = read(write_rows(values, {"prompt": statement(("1", "2"))}))
    assert list(problems) == ["P1"] and skipped.kind == "unreadable"
    assert "line 1: expected a string in 'conversations" in skipped.reason
