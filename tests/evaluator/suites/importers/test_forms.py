"""Which form a source has, and a form that is added."""

import pytest
from typer.testing import CliRunner

from evaluator.cli import app
from evaluator.errors import SuiteError
from evaluator.suites.importers.draft import Draft, Importer
from evaluator.suites.importers.forms import IMPORTERS, detect_form
from evaluator.suites.problem import TestCase
from evaluator.suites.suite import load_suite

CASES = [{"input": "1", "output": "2"}]
GOOD = [{"prompt": f"# P{n} x", "test_cases": CASES} for n in (1, 2)]


def test_form_is_that_of_most_rows(tmp_path, read, write_rows):
    lost = {"prompt": "# P9 x"}  # without its tests it looks like a statement
    problems, skipped = read(write_rows({"x": 1}, lost, lost, *GOOD))
    assert list(problems) == ["P1", "P2"] and {s.id for s in skipped} == {"1", "P9"}


def test_unknown_form_is_refused_by_name(write_rows, read):
    with pytest.raises(SuiteError, match="no form 'dpo'; the forms are upstream, code-contests"):
        read(write_rows(*GOOD), "dpo")


def test_fields_of_no_form_are_named(write_rows):
    with pytest.raises(SuiteError, match=r"line 1: fields \['a'\] belong to no known form"):
        detect_form(write_rows({"a": 1}))


def test_suite_is_no_source(tmp_path):
    (tmp_path / "suite.json").write_text("{}")
    with pytest.raises(SuiteError, match="is a suite already"):
        detect_form(tmp_path)


def draft_of_riddle(row):
    if not isinstance(row.values["riddle"], str):
        raise row.error("expected a string 'riddle'")
    tests = (TestCase("1", "", row.values["answer"]),)
    return Draft(row.where, row.named("id"), row.values["riddle"], tests)


def test_importer_is_added_by_one_object(write_rows, tmp_path, monkeypatch):
    """It is detected, named on the command line, and its bad rows are listed as others' are."""
    riddles = Importer("riddles", frozenset({"riddle"}), draft_of_riddle)
    monkeypatch.setitem(IMPORTERS, riddles.name, riddles)
    path = write_rows({"id": "a", "riddle": "Print 7.", "answer": "7"}, {"id": "b", "riddle": 5})
    for number, form in enumerate(([], ["--form", "riddles"])):
        out = tmp_path / f"suite{number}"
        done = CliRunner().invoke(app, ["import", str(path), "--out", str(out), *form])
        assert done.exit_code == 0, done.output
        assert "1 problems, 1 tests (riddles)" in done.output
        assert "line 2: expected a string 'riddle'" in (out / "skipped.jsonl").read_text()
    assert [problem.id for problem in load_suite(path).problems] == ["a"]
