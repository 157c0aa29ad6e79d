"""Reading completions: every form of the file, and rows that are no completion."""

import gzip
import json

import pytest

from evaluator.errors import CompletionsError
from evaluator.judging.completions import read_completions
from evaluator.suites.suite import load_suite

ROWS = [
    {"problem": "S0", "sample": 0, "completion": "一\n", "name": "left alone"},
    {"problem": "S1", "sample": 7, "completion": "b\ud800\0"},
    {"problem": "S1", "completion": ""},
]
TEXTS = {("S0", 0): "一\n", ("S1", 7): "b\ud800\0", ("S1", 0): ""}
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
GOOD = b'{"problem": "S0", "completion": "good"}\n'


@pytest.fixture
def read(sum_suite, tmp_path):
    """Reads a file with this content."""

    def read(content, name="c.jsonl"):
        path = tmp_path / name
        path.write_bytes(content)
        return read_completions(path, load_suite(sum_suite))

    return read


def test_texts_are_read_in_their_order(read):
    for content in (LINES, gzip.compress(json.dumps(ROWS).encode())):
        found = read(content, "c.json")
        assert (list(found.texts.items()), found.not_judged) == (list(TEXTS.items()), ())


BAD = {
    b"nonsense": "not JSON",
    b"[]": "expected a JSON object, found list",
    b'{"problem": "S0", "sample": ' + b"9" * 5000 + b', "completion": ""}': "5000 digits",
    b'{"problem": "S0", "sample": ' + b"9" * 50 + b', "completion": ""}': "of 64 bits",
    b'{"problem":' + b"[" * 5000 + b"]" * 5000 + b"}": "not JSON",
    b'{"problem": "S0", "completion": "\xff"}': "not UTF-8",
    b'{"problem": "P9", "completion": ""}': "'P9' is not in suite 'sums' (6 problems, such as S0",
    b'{"completion": ""}': "'problem' is None",
    b'{"problem": "S0", "sample": "x", "completion": ""}': "'sample' is 'x'",
    b'{"problem": "S0"}': "'completion' is of type NoneType",
    b'{"problem": "S0", "completion": "b"}': "sample 0 stands twice; the first counts",
}


def test_bad_rows_are_listed_and_the_rest_is_read(read):
    found = read(GOOD + b"".join(line + b"\n" for line in BAD) + GOOD)
    assert found.texts == {("S0", 0): "good"}
    assert [row.where for row in found.not_judged] == [f"line {n + 2}" for n in range(len(BAD))]
    for row, words in zip(found.not_judged, BAD.values(), strict=True):
        assert words in row.reason and len(row.reason) < 300


def test_a_line_whose_writer_was_killed_is_said_to_be_torn(read):
    bad, torn = read(GOOD + b"x\n" + GOOD[:20]).not_judged
    assert torn.where == "line 3" and torn.reason.endswith("torn: was its writer killed?")
    [bad] = read(b"x\n" + GOOD[:-1]).not_judged
    assert "torn" not in bad.reason


def test_a_file_without_any_good_row_is_an_error_that_names_the_first(read):
    with pytest.raises(CompletionsError, match=r"c\.jsonl, line 1: .*\(and 1 more\)"):
        read(b"x\nx\n")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"[]"])
def test_a_file_without_rows_is_an_error(read, content):
    with pytest.raises(CompletionsError, match="no completions in it"):
        read(content, "c.json")


def test_a_problem_that_the_suite_left_out_is_named_with_its_reason(tmp_path):
    cases = [{"input": "1 2", "output": "3"}]
    rows = [{"prompt": "# P1 x", "test_cases": cases}, {"prompt": "# P2 x", "test_cases": []}]
    suite = tmp_path / "rl.jsonl"
    suite.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "c.jsonl"
    path.write_text('{"problem": "P1", "completion": ""}\n{"problem": "P2", "completion": ""}\n')
    [row] = read_completions(path, load_suite(suite)).not_judged
    assert "'P2' is not in" in row.reason and "left out, line 2: no tests" in row.reason
