"""Reading completions: every form of the file, and rows that are no completion."""

import gzip
import json

import pytest

from evaluator.errors import CompletionsError
from evaluator.judging.judge_file import read_completions
from evaluator.suites.suite import load_suite

ROWS = [
    {"problem": "S0", "sample": 0, "completion": "一\n", "name": "left alone"},
    {"problem": "S1", "sample": 7, "completion": "b\ud800\0"},
    {"problem": "S1", "completion": ""},
]
TEXTS = [(("", "S0", 0), "一\n"), (("", "S1", 7), "b\ud800\0"), (("", "S1", 0), "")]
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
        texts, bad = read(content, "c.json")
        assert (list(texts.items()), bad) == (TEXTS, ())


BAD = {
    b"nonsense": "not JSON",
    b"[]": "an array where a line",
    b'{"problem": "S0", "sample": ' + b"9" * 50 + b', "completion": ""}': "of 64 bits",
    b'{"problem": "P9", "completion": ""}': "'P9' is not in suite 'sums' (6 problems, such as S0",
    b'{"completion": ""}': "'problem' is None",
    b'{"problem": "S0", "sample": "x", "completion": ""}': "'sample' is 'x'",
    b'{"problem": "S0"}': "'completion' is of type NoneType",
    b'{"problem": "S0", "completion": "b"}': "sample 0 stands twice; the first counts",
}


def test_bad_rows_are_listed_and_the_rest_is_read(read):
    texts, bad = read(GOOD + b"".join(line + b"\n" for line in BAD) + GOOD)
    assert texts == {("", "S0", 0): "good"}
    assert [row.where for row in bad] == [f"line {n + 2}" for n in range(len(BAD))]
    for row, words in zip(bad, BAD.values(), strict=True):
        assert words in row.reason and len(row.reason) < 300


def test_a_line_whose_writer_was_killed_is_said_to_be_torn(read):
    _, (bad, torn) = read(GOOD + b"x\n" + GOOD[:20])
    assert torn.where == "line 3" and torn.reason.endswith("torn: was its writer killed?")
    _, [bad] = read(b"x\n" + GOOD[:-1])
    assert "torn" not in bad.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"x\nx\n", r"c\.json, line 1: .*\(and 1 more\)")]
    + [(content, "no completions in it") for content in (b"", b"\n\n", b"[]")],
)
def test_a_file_without_any_good_row_is_an_error_that_names_the_first(read, content, words):
    with pytest.raises(CompletionsError, match=words):
        read(content, "c.json")


def test_a_problem_that_the_suite_left_out_is_named_with_its_reason(tmp_path):
    cases = {"P1": [{"input": "1 2", "output": "3"}], "P2": []}
    suite, path = tmp_path / "rl.jsonl", tmp_path / "c.jsonl"
    rows = [{"prompt": f"# {name} x", "test_cases": some} for name, some in cases.items()]
    suite.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [{"problem": name, "completion": ""} for name in cases]
    path.write_text("".join(json.dumps(row) + "\n" for row in texts))
    _, [row] = read_completions(path, load_suite(suite))
    assert "'P2' is not in" in row.reason and "left out, line 2: no tests" in row.reason
