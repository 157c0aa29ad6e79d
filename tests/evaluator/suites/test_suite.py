"""Suites: the own form, good and bad, and files of other forms as they are."""

import json
from pathlib import Path

import pytest

from evaluator.errors import SuiteError
from evaluator.suites.problem import TestCase
from evaluator.suites.suite import load_suite

ROW = {"id": "a", "statement": "s", "tests": [{"input": "1\n", "output": "  2 \r\n"}]}


def write_suite(folder: Path, *rows, manifest=None) -> Path:
    folder.mkdir(exist_ok=True)
    manifest = manifest or {"format": "tinylora-suite/1", "name": "mine"}
    (folder / "suite.json").write_text(json.dumps(manifest))
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_own_form_keeps_every_byte_and_nulls_count_as_absent(tmp_path):
    suite = load_suite(write_suite(tmp_path / "s", ROW))
    assert suite.name == "mine"
    assert suite.problems[0].tests == (TestCase("1", "1\n", "  2 \r\n"),)
    assert suite.problems[0].limits(suite.problems[0].tests[0]) == (1000, 131072)
    tests = [ROW["tests"][0] | {"subtask": None, "score": None}]
    row = ROW | {"title": None, "checker": None, "archive": None, "tests": tests}
    assert load_suite(write_suite(tmp_path / "s", row)).problems == suite.problems


def test_digests_stay_what_they_were(tmp_path):
    """Published suites and finished runs are held against them."""
    checker = {"kind": "float", "tolerance": 0.5}
    rows = ROW, {**ROW, "id": "b", "checker": checker, "tests": [{"input": "1\n", "output": "2"}]}
    assert load_suite(write_suite(tmp_path / "s", *rows)).digest == (
        "f67b66e369969f5a33c2a5f5604bb7873fbc7226680f4cc1accbd86781b098c0"
    )
    rows[1]["checker"] = checker | {"error": "absolute"}
    assert not load_suite(write_suite(tmp_path / "s", *rows)).digest.startswith("f67b")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "first"}, "'first' stands already in line 1"),
        ({"tests": []}, "no tests"),
        ({"tests": None}, "'tests' or 'archive'"),
        ({"archive": "x.zip"}, "'tests' or 'archive'"),
        ({"time_limit_ms": 0}, "limits are 0 ms"),
        ({"time_limit_ms": 10**400}, "limits are 1000"),
        ({"memory_limit_kib": 256}, "256 KiB; possible are"),
        ({"time_limit_ms": "5"}, "time_limit_ms"),
        ({"colour": 1}, "colour: there is no such field"),
        ({"id": ""}, "empty id"),
        ({"checker": {"kind": "fuzzy"}}, "checker.kind: expected 'lines', .*found 'fuzzy'"),
        ({"checker": {"kind": "special"}}, "source"),
        ({"tests": [{"input": "1"}]}, "tests.0.output: Field required"),
        ({"tests": [{"name": "a", "input": "", "output": ""}] * 2}, "same name"),
        ({"tests": [{"input": "\ud800", "output": ""}]}, "UTF-8"),
        ({"tests": [None]}, "tests.0: expected a dictionary .*found None"),
        ({"tests": [{"input": "", "output": "", "score": float("nan")}]}, "score nan"),
        ({"checker": {"kind": "float", "error": "both"}}, "checker.error: .*found 'both'"),
        ({"checker": {"kind": "tokens", "error": "absolute"}}, "only a 'float' checker"),
        ({"archive": "a\0b", "tests": None}, "is no path"),
        ({"archive": "../secret.zip", "tests": None}, "lies outside of the suite's folder"),
    ],
)
def test_bad_problems_are_named(tmp_path, change, words):
    with pytest.raises(SuiteError, match=f"(?s)line 2.*{words}"):
        load_suite(write_suite(tmp_path / "s", ROW | {"id": "first"}, ROW | change))


def test_bad_manifests_and_missing_and_torn_files(tmp_path):
    for manifest, words in (
        ({"format": "other/1", "name": "x"}, "other/1"),
        ({"format": "tinylora-suite/1"}, "name"),
        ({"format": "tinylora-suite/1", "name": "x", "digest": 5}, "digest"),
    ):
        with pytest.raises(SuiteError, match=words):
            load_suite(write_suite(tmp_path / "m", ROW, manifest=manifest))
    with pytest.raises(SuiteError, match="no such suite"):
        load_suite(tmp_path / "nowhere")
    (tmp_path / "e").mkdir()
    with pytest.raises(SuiteError, match="it is empty, or of no form"):
        load_suite(tmp_path / "e")
    folder = write_suite(tmp_path / "s", ROW)
    with (folder / "problems.jsonl").open("a") as stream:
        stream.write('{"id": "b", "stat')
    with pytest.raises(SuiteError, match="line 2: not JSON"):
        load_suite(folder)
    with pytest.raises(SuiteError, match="empty"):
        load_suite(write_suite(tmp_path / "t"))


def test_a_changed_suite_does_not_keep_its_digest(tmp_path):
    digest = load_suite(write_suite(tmp_path / "s", ROW)).digest
    manifest = {"format": "tinylora-suite/1", "name": "mine", "digest": digest}
    folder = write_suite(tmp_path / "s", ROW | {"source": "elsewhere"}, manifest=manifest)
    assert load_suite(folder).digest == digest
    changed = ROW | {"tests": [{"input": "1\n", "output": "2"}]}
    with pytest.raises(SuiteError, match=f"suite.json says {digest}: a file was changed"):
        load_suite(write_suite(folder, changed, manifest=manifest))


def test_a_file_of_another_form_is_a_suite_as_it_is(write):
    cases = [{"input": "1", "output": "2"}]
    rows = [{"prompt": "# P1 x", "test_cases": cases}, {"prompt": "# P2 x", "test_cases": []}]
    path = write("rl.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    suite = load_suite(path)
    assert suite.name == "rl" and suite.path == path
    assert [problem.id for problem in suite.problems] == ["P1"]
    assert [(s.where, s.id, s.kind) for s in suite.skipped] == [("line 2", "P2", "no-tests")]
    path.write_text(json.dumps(rows[1]))
    with pytest.raises(SuiteError, match="no problem that can be judged .line 1: no tests"):
        load_suite(path)
    path.write_text("\n")
    with pytest.raises(SuiteError, match="the file is empty"):
        load_suite(path)
