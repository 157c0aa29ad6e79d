"""Suites: the own form and upstream's jsonl, good and bad."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.errors import SuiteError
from evaluator.problem import Checker, Problem, TestCase, to_bytes, to_text
from evaluator.suite import load_suite

ROW = {"id": "a", "statement": "s", "tests": [{"input": "1\n", "output": "  2 \r\n"}]}


def write_suite(folder: Path, *rows, manifest=None) -> Path:
    folder.mkdir(exist_ok=True)
    manifest = manifest or {"format": "tinylora-suite/1", "name": "mine"}
    (folder / "suite.json").write_text(json.dumps(manifest))
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_upstream(path: Path, *rows) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def upstream_row(heading="# P1002 [NOIP 2002] 过河卒", cases=(("1\n", "2\n"),), body="x"):
    cases = [{"input": i, "output": o} for i, o in cases]
    return {"prompt": f"请解题:\n\n{heading}\n\n{body}", "test_cases": cases}


def test_own_form_keeps_every_byte(tmp_path):
    suite = load_suite(write_suite(tmp_path / "s", ROW))
    assert suite.name == "mine"
    assert suite.problems[0].tests == (TestCase("1", "1\n", "  2 \r\n"),)
    assert suite.problems[0].limits(suite.problems[0].tests[0]) == (1000, 131072)


def test_nulls_count_as_absent(tmp_path):
    row = ROW | {"title": None, "checker": None, "archive": None}
    row["tests"] = [{"input": "1", "output": "2", "subtask": None, "score": None}]
    assert load_suite(write_suite(tmp_path / "s", row)).problems[0].title == ""


def test_everything_that_a_problem_can_say(tmp_path):
    case = {"name": "x", "input": "1", "output": "2", "score": 5, "subtask": 2, "pretest": True}
    case |= {"time_limit_ms": 50, "memory_limit_kib": 1024}
    row = ROW | {"tests": [case], "checker": {"kind": "float", "tolerance": 0.5}, "family": "f"}
    problem = load_suite(write_suite(tmp_path / "s", row)).problems[0]
    assert problem.tests == (TestCase("x", "1", "2", 5, 2, 50, 1024, True),)
    assert problem.checker == Checker("float", 0.5)
    assert problem.limits(problem.tests[0]) == (50, 1024)


def test_digest_is_of_the_content(tmp_path):
    first = load_suite(write_suite(tmp_path / "s", ROW))
    assert first.digest == load_suite(write_suite(tmp_path / "t", ROW | {"title": None})).digest
    for change in ({"time_limit_ms": 999}, {"tests": [{"input": "1\n", "output": "2"}]}):
        assert load_suite(write_suite(tmp_path / "u", ROW | change)).digest != first.digest


def test_datasets_reads_the_own_form(tmp_path):
    datasets = pytest.importorskip("datasets")
    folder = write_suite(tmp_path / "s", ROW, ROW | {"id": "b"})
    rows = datasets.Dataset.from_json(
        str(folder / "problems.jsonl"), cache_dir=str(tmp_path / "cache")
    )
    assert rows["id"] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tests": []}, "no tests"),
        ({"tests": None}, "'tests' or 'archive'"),
        ({"archive": "x.zip"}, "'tests' or 'archive'"),
        ({"time_limit_ms": 0}, "limits must be positive"),
        ({"time_limit_ms": True}, "time_limit_ms"),
        ({"time_limit_ms": "5"}, "time_limit_ms"),
        ({"colour": 1}, "unknown fields.*colour"),
        ({"id": None}, "missing fields.*id"),
        ({"id": ""}, "empty id"),
        ({"checker": {"kind": "fuzzy"}}, "fuzzy.*allowed"),
        ({"checker": {"kind": "special"}}, "source"),
        ({"checker": {"kind": "lines", "tolerance": 0.1}}, "tolerance"),
        ({"tests": [{"input": "1"}]}, "missing fields.*output"),
        ({"tests": [{"name": "a", "input": "", "output": ""}] * 2}, "same name"),
        ({"tests": [{"input": "\ud800", "output": ""}]}, "UTF-8"),
        ({"statement": 5}, "statement"),
    ],
)
def test_bad_problems_are_named(tmp_path, change, words):
    with pytest.raises(SuiteError, match=f"(?s)line 2.*{words}"):
        load_suite(write_suite(tmp_path / "s", ROW | {"id": "first"}, ROW | change))


def test_doubled_ids_are_refused(tmp_path):
    with pytest.raises(SuiteError, match="line 2.*'a' stands already in line 1"):
        load_suite(write_suite(tmp_path / "s", ROW, ROW))


def test_archives_stay_inside_the_suite(tmp_path):
    row = {"id": "a", "statement": "s", "archive": "../secret.zip"}
    (tmp_path / "secret.zip").write_bytes(b"")
    with pytest.raises(SuiteError, match="outside"):
        load_suite(write_suite(tmp_path / "s", row))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [({"format": "other/1", "name": "x"}, "other/1"), ({"format": "tinylora-suite/1"}, "name")],
)
def test_bad_manifests(tmp_path, manifest, words):
    with pytest.raises(SuiteError, match=words):
        load_suite(write_suite(tmp_path / "s", ROW, manifest=manifest))


def test_missing_and_torn_files(tmp_path):
    with pytest.raises(SuiteError, match="no such suite"):
        load_suite(tmp_path / "nowhere")
    with pytest.raises(SuiteError, match="suite.json"):
        load_suite(tmp_path)
    folder = write_suite(tmp_path / "s", ROW)
    with (folder / "problems.jsonl").open("a") as stream:
        stream.write('{"id": "b", "stat')
    with pytest.raises(SuiteError, match="line 2: not JSON"):
        load_suite(folder)
    with pytest.raises(SuiteError, match="empty"):
        load_suite(write_suite(tmp_path / "t"))


def test_upstream_ids_titles_and_prompts(tmp_path):
    rows = [
        upstream_row(),
        upstream_row("# B2001 入门"),
        upstream_row("# U12345 团队"),
        upstream_row("# T7 x"),
        upstream_row("# CF1A Theatre Square"),
        upstream_row("no heading"),
    ]
    suite = load_suite(write_upstream(tmp_path / "u.jsonl", *rows))
    assert [p.id for p in suite.problems] == ["P1002", "B2001", "U12345", "T7", "CF1A", "6"]
    assert suite.problems[0].title == "[NOIP 2002] 过河卒"
    assert suite.problems[0].statement.startswith("# P1002")
    assert suite.problems[0].prompt == rows[0]["prompt"]
    assert suite.problems[0].tests == (TestCase("1", "1\n", "2\n"),)


def test_upstream_doubles(tmp_path):
    rows = [upstream_row(), upstream_row(), upstream_row(cases=[("5", "6")])]
    suite = load_suite(write_upstream(tmp_path / "u.jsonl", *rows))
    assert [p.id for p in suite.problems] == ["P1002", "P1002-2"]
    assert [(row.line, row.reason) for row in suite.skipped] == [(2, "duplicate of 'P1002'")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (upstream_row(cases=[]), "no tests"),
        (upstream_row(cases=[("无", "1")]), "answer-only"),
        (upstream_row(cases=[("1", "1 2\n...\n")]), "elided"),
        (upstream_row(cases=[("1", "1\n……剩余214组合法解省略")]), "elided"),
        (upstream_row(cases=[("1", " \n")]), "no output"),
        (upstream_row(body="这是一道交互题。"), "interactive"),
    ],
)
def test_upstream_rows_that_cannot_be_judged_are_listed(tmp_path, row, reason):
    good = upstream_row("# P1 x")
    suite = load_suite(write_upstream(tmp_path / "u.jsonl", row, good))
    assert [p.id for p in suite.problems] == ["P1"]
    [skipped] = suite.skipped
    assert (skipped.line, skipped.id) == (1, "P1002") and reason in skipped.reason
    with pytest.raises(SuiteError, match=f"no problem.*{reason}"):
        load_suite(write_upstream(tmp_path / "only.jsonl", row))


def test_upstream_keeps_what_can_be_judged_of_a_problem(tmp_path):
    row = upstream_row(cases=[("1", "..."), ("2", "..#\n...\n"), ("3", "4")], body="这不是交互题")
    suite = load_suite(write_upstream(tmp_path / "u.jsonl", row))
    assert [test.name for test in suite.problems[0].tests] == ["2", "3"]
    assert [row.reason for row in suite.skipped] == ["test 1: elided data ('...')"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"prompt": "x", "test_cases": [', "line 1: not JSON"),
        ("[1]", "'prompt'"),
        ('{"prompt": "x"}', "test_cases"),
        ('{"prompt": "x", "test_cases": [{"input": 1, "output": "2"}]}', "test case 1"),
    ],
)
def test_bad_upstream_lines(tmp_path, text, words):
    path = tmp_path / "u.jsonl"
    path.write_text(text)
    with pytest.raises(SuiteError, match=words):
        load_suite(path)


def test_real_statements_have_ids(shared_data, tmp_path):
    """The real rows have no test cases; with one each they are all read, each problem once."""
    lines = (shared_data / "failed_extraction.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) | {"test_cases": [{"input": "1", "output": "2"}]} for line in lines]
    suite = load_suite(write_upstream(tmp_path / "u.jsonl", *rows))
    assert len(lines) == 28
    assert all(problem.id.startswith("P") for problem in suite.problems)
    reasons = [row.reason for row in suite.skipped]
    assert sum("duplicate" in reason for reason in reasons) == len(suite.problems)
    assert {row.id for row in suite.skipped if "interactive" in row.reason} == {"P3641", "P3777"}
    assert len({p.id for p in suite.problems} | {"P3641", "P3777"}) == 14


@given(st.binary())
def test_test_data_survives_as_text(data):
    assert to_bytes(to_text(data)) == data


def test_a_problem_without_tests_cannot_be_made():
    with pytest.raises(SuiteError, match="no tests"):
        Problem("a", "s", ())
