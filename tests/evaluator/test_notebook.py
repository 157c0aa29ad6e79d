"""Runs from Python: made and opened, their numbers as frames."""

import json
import subprocess
import sys

import pytest

import evaluator
from evaluator.config.run_config import load_config
from evaluator.errors import RecordsError
from tests.evaluator.whole_runs import identities


def test_a_finished_run_opens_as_frames(whole):
    out, results, _ = whole
    found = evaluator.Run.open(out)
    assert list(found.arms["arm"]) == ["base", "restored", "dense"]
    assert len(found.completions) == len(found.verdicts) == 36
    assert {"arm", "problem", "sample", "text", "token_count"} <= set(found.completions.columns)
    passed = (found.verdicts["verdict"] == "AC").groupby(found.verdicts["arm"]).mean()
    rates = found.arms.set_index("arm")["pass_rate"]
    assert all(passed[arm] == pytest.approx(rates[arm]) for arm in rates.index)
    assert len(found.problems) == 6
    assert list(found.token_level["arm"])[-1] == "dense"
    written = json.loads((out / "comparison.json").read_text())["comparisons"]
    assert [found.comparison[pair["arm"]] for pair in written] == written
    assert found.findings == results.sentences


def test_a_run_is_made_from_python(quick_config, tmp_path):
    path = quick_config(tmp_path / "out", token_level={"enabled": False})
    found = evaluator.evaluate(path)
    before = identities(tmp_path / "out")
    assert len(found.completions) == 24
    again = evaluator.evaluate(load_config(path))
    assert identities(tmp_path / "out") == before
    assert again.arms.equals(found.arms)
    assert "evaluate() in" in (tmp_path / "out" / "environment.json").read_text()


def test_an_unfinished_run_does_not_open(whole, tmp_path):
    with pytest.raises(RecordsError, match=r"no run\.json"):
        evaluator.Run.open(tmp_path)
    (tmp_path / "run.json").write_bytes((whole[0] / "run.json").read_bytes())
    with pytest.raises(RecordsError, match="36 of 36 verdicts are missing"):
        evaluator.Run.open(tmp_path)


def test_the_package_imports_nothing_before_it_is_used():
    code = "import sys, evaluator; print(any(m in sys.modules for m in ('torch', 'pandas')))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
    with pytest.raises(AttributeError, match="has no attribute 'Runs'"):
        _ = evaluator.Runs
