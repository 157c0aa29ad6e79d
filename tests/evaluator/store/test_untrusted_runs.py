"""A run's files may come from anywhere: what no run writes ends in an error that names the file."""

import json
import re
import shutil
import sys

import pandas as pd
import pytest

from evaluator.errors import RecordsError
from evaluator.report.results import write_results
from evaluator.store.environment import command_line
from evaluator.store.run_directory import RunDirectory
from tests.evaluator.report import made_up
from tests.evaluator.report.html.made_runs import make_run

NESTED = "[" * 2000 + "]" * 2000
HUGE = "1" + "0" * 400


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made"))[0].path


@pytest.fixture
def directory(made, tmp_path):
    """A finished run, to be changed."""
    return RunDirectory(shutil.copytree(made, tmp_path / "run"))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("run.json", '"margin": 0.05', '"margin": "x"'),
        ("run.json", '"margin": 0.05', '"margin": NaN'),
        ("run.json", '"samples": 1', f'"samples": {HUGE}'),
        ("run.json", '"samples": 1', f'"samples": {NESTED}'),
        ("run.json", '"name": "base"', '"name": ["base"]'),
        ("run.json", '"name": "base"', r'"name": "\\ud800"'),
        ("run.json", r'"residual": 0\.8', f'"residual": {HUGE}'),
        ("run.json", '"name": "demo"', '"name": {}'),
        ("run.json", '"format": "', '"format": "other '),
        ("environment.json", '"cpus": 2', '"cpus": {}'),
        ("environment.json", '"torch": "9.9"', '"torch": 9'),
        ("environment.json", '"sessions": ', '"others": '),
        ("verdicts.jsonl", '"score": [0-9.]+', '"score": 1e999'),
        ("verdicts.jsonl", '"memory_kib": 100', f'"memory_kib": {HUGE}'),
        ("verdicts.jsonl", '"verdict": "WA"', '"verdict": []'),
        ("verdicts.jsonl", '"subtasks": {}', f'"subtasks": {NESTED}'),
        ("verdicts.jsonl", '"name": "t1"', '"name": 3'),
        ("generations.jsonl", '"text": "So', '"text": 3, "x": "So'),
        ("generations.jsonl", '"token_count": 20', '"token_count": "many"'),
        ("statements.jsonl", '"title": "Title 3"', '"title": 3'),
        ("statements.jsonl", '"tests": {', f'"tests": {NESTED}, "x": {{'),
        ("fidelity.json", '"delta_norm": 3.0', '"delta_norm": 0'),
        ("fidelity.json", '"delta_norm": 3.0', f'"delta_norm": {HUGE}'),
        ("fidelity.json", r'"residual": 0\.8', '"residual": null'),
    ],
)
def test_what_no_run_writes_is_refused_with_its_file(file, old, new, directory):
    path = directory.path / file
    changed, count = re.subn(old, new, path.read_text(), count=1)
    assert count == 1
    path.write_text(changed)
    with pytest.raises(RecordsError, match=rf"{file}\b"):
        write_results(directory)


def test_as_many_missing_samples_as_anybody_writes_are_counted(directory):
    text = directory.facts.read_text()
    directory.facts.write_text(text.replace('"samples": 1', '"samples": 2000000000'))
    with pytest.raises(RecordsError, match="of 320000000000 verdicts are missing"):
        write_results(directory)


def test_no_cell_of_a_csv_is_a_formula(tmp_path):
    """Names come from suites and configurations of others; spreadsheets compute such cells."""
    formulas = [f"{sign}HYPERLINK(1)" for sign in "=+-@\t＝"]
    directory = made_up.begun(tmp_path, made_up.facts(kinds={"restored": "restored"}))
    content = json.loads(directory.facts.read_text())
    for number, problem in enumerate(content["problems"]):
        problem |= dict.fromkeys(("language", "family"), formulas[number % len(formulas)])
    directory.facts.write_text(json.dumps(content))
    write_results(directory)
    text = (directory.tables / "groups.csv").read_text()
    assert all(f"'{formula}" in text for formula in formulas)
    assert not re.search(r'(^|[,"])[=+\-@\t＝]', text, re.MULTILINE)
    groups = pd.read_parquet(directory.tables / "groups.parquet")  # no spreadsheet reads that
    assert set(groups["group"]) == set(formulas)


def test_a_command_that_is_no_text_can_be_written_down(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "run", "\udcff.yaml"])
    assert command_line() == r"tinylora-eval run '\udcff.yaml'"
