"""The options of goals on the command line."""

import json

import pytest
from typer.testing import CliRunner

from exporter.cli import app
from exporter.errors import PromptError
from exporter.request import Goal
from tests.exporter.talking import write_rows


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_merge_with_goals(talking, make_artifact, texts, tmp_path):
    artifact, out = make_artifact(3e-2), tmp_path / "out"
    common = ["merge", "--base", talking, "--artifact", artifact, "--out", out]
    result = invoke(
        *common, "--format", "nf4-mixed", "--requantize", "calibrated", "--prompts", texts(1),
        "--check-prompts", texts(2), "--target-residual", "0.3", "--max-bytes", "1MB",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "chosen: nf4-mixed (calibrated)" in result.stdout and "this export" in result.stdout
    manifest = json.loads((out / "export_manifest.json").read_text())
    assert manifest["retention"]["output_residual"] < 1
    assert manifest["options"]["calibration_prompts"] is not None
    assert "## Retention" in (out / "README.md").read_text()
    result = invoke(
        "verify", out, "--base", talking, "--artifact", artifact, "--prompts", texts(2),
        "--no-record",
    )  # fmt: skip
    assert result.exit_code == 0 and "Retention" in result.stdout


def test_a_target_out_of_reach_is_exit_code_1(talking, make_artifact, texts, tmp_path):
    result = invoke(
        "merge", "--base", talking, "--artifact", make_artifact(1e-3), "--out", tmp_path / "out",
        "--format", "nf4-mixed", "--prompts", texts(1), "--target-residual", "0.01",
    )  # fmt: skip
    assert result.exit_code == 1 and "does not reach" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_check_prompts_are_said_before_the_work(talking, make_artifact, run, tmp_path):
    bad = write_rows(tmp_path / "bad.jsonl", [{"text": 1}])
    with pytest.raises(PromptError, match="bad.jsonl, line 1"):
        run(talking, make_artifact(3e-3), "nf4", goal=Goal(check_prompts=bad))
    assert [p.name for p in tmp_path.iterdir()] == ["bad.jsonl"]
    result = invoke(
        "merge", "--base", talking, "--artifact", make_artifact(3e-3), "--out", tmp_path / "out",
        "--check-prompts", bad,
    )  # fmt: skip
    assert result.exit_code == 2 and "line 1" in result.stderr


def test_prompts_alone_are_refused(talking, make_artifact, run, texts):
    out = run(talking, make_artifact(3e-3), "nf4").out
    result = invoke("verify", out, "--prompts", texts(1))
    assert result.exit_code == 2 and "--prompts needs" in result.stderr
