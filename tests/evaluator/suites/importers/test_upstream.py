"""Upstream's RL data: prompts with test cases."""

import json
import re

import pytest

from evaluator.suites.problem import TestCase


def row(heading="# P1002 [NOIP 2002] 过河卒", cases=(("1\n", "2\n"),), body="x"):
    cases = [{"input": i, "output": o} for i, o in cases]
    return {"prompt": f"请解题:\n\n{heading}\n\n{body}", "test_cases": cases}


def test_ids_titles_and_prompts(write_rows, read):
    headings = ("# P1002 [NOIP 2002] 过河卒", "# B2001 入门", "# U12345 团队", "# T7 x")
    headings += ("# CF1A Theatre Square", "# SP1 TEST", "# UVA100 3n+1", "# AT_abc001_a x", "none")
    problems, skipped = read(write_rows(*map(row, headings)))
    ids = ["P1002", "B2001", "U12345", "T7", "CF1A", "SP1", "UVA100", "AT_abc001_a", "9"]
    assert list(problems) == ids and not skipped
    first = problems["P1002"]
    assert first.title == "[NOIP 2002] 过河卒" and first.language == "zh"
    assert first.statement.startswith("# P1002")
    assert first.prompt == row()["prompt"]
    assert first.source == "rows0.jsonl, line 1"
    assert first.tests == (TestCase("1", "1\n", "2\n"),)
    # the instructions before the heading are no part of the statement
    assert problems["CF1A"].language == "en" and "请" not in problems["CF1A"].statement


def test_doubles_and_changed_rows(write_rows, read):
    problems, skipped = read(write_rows(row(), row(), row(cases=[("5", "6")]), row(body="y")))
    assert list(problems) == ["P1002", "P1002-2", "P1002-3"]
    (double,) = skipped
    assert (double.where, double.id, double.kind) == ("line 2", "P1002", "duplicate")
    assert double.reason == "the same as line 1"


def test_what_can_be_judged_of_a_problem_is_kept(write_rows, read):
    cases = [("1", "..."), ("2", "..#\n...\n"), ("3", "4")]
    problems, [skipped] = read(write_rows(row(cases=cases, body="这不是交互题")))
    assert [test.name for test in problems["P1002"].tests] == ["2", "3"]
    assert (skipped.id, skipped.test, skipped.kind) == ("P1002", "1", "elided")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b'{"prompt": "x", "test_cases": [', "not JSON"),
        (b"[1]", "an array where a line"),
        (b"[" * 100_000, "an array where a line"),
        (b'{"prompt": "\xff"}', "not UTF-8"),
        (b'{"x": ' + b"9" * 5000 + b"}", "not JSON .*digits"),
        (b'{"colour": 1}', "'prompt'"),
        (b'{"prompt": "x", "test_cases": null}', "'test_cases', found NoneType"),
        (b'{"prompt": "x", "test_cases": [{"input": 1, "output": "2"}]}', "test case 1"),
        (b'{"prompt": "x\\ud800", "test_cases": [{"input": "1", "output": "2"}]}', "half of a"),
        (b'{"prompt": "x", "test_cases": [{"input": "\\ud800", "output": "2"}]}', "half of a"),
    ],
)
def test_a_bad_line_is_listed_and_the_others_are_kept(write, read, bad, words):
    good = [json.dumps(row(f"# P{n} x")).encode() for n in (1, 2)]
    for lines, where in (((good[0], bad, good[1]), "line 2"), ((bad, *good), "line 1")):
        problems, [skipped] = read(write("u.jsonl", b"\n".join(lines)))
        assert list(problems) == ["P1", "P2"]
        assert (skipped.where, skipped.kind) == (where, "unreadable")
        assert re.search(words, skipped.reason) and len(skipped.reason) < 500
