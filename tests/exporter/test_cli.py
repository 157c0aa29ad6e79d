"""The command line."""

import json
import os
import signal
import tempfile

import pytest
import torch
from typer.testing import CliRunner

from exporter import export, inspect_adapter
from exporter.cli import app
from tinylora import save_artifact


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def merge(base, artifact, out, *options):
    return invoke("merge", "--base", base, "--artifact", artifact, "--out", out, *options)


def answer(*arguments):
    """What a command prints with ``--json``, and its exit code."""
    result = invoke(*arguments, "--json")
    return json.loads(result.stdout), result.exit_code


def test_merge_reports_and_warns(base, make_artifact, tmp_path):
    out = tmp_path / "out"
    result = merge(base, make_artifact(3e-5), out, "--format", "nf4")
    assert result.exit_code == 0, result.stderr
    assert "capture" in result.stdout and "all 14" in result.stdout
    assert "THE DELTA WAS LOST" in " ".join(result.stderr.split())
    result = invoke("verify", out)
    assert result.exit_code == 0
    assert "recorded: by the weights: delta lost, capture 0.0, residual 1.0" in result.stdout
    assert "Warning: recorded: THE DELTA WAS LOST" in result.stderr


def test_a_merge_without_a_format_keeps_a_delta_of_any_size(base, make_artifact, tmp_path):
    result = merge(base, make_artifact(3e-5), tmp_path / "out", "--require-capture", "1")
    assert result.exit_code == 0, result.stderr
    shown = " ".join(result.stdout.split())
    assert "delta kept" in shown and "LOST" not in result.stderr
    assert "with peft installed" in shown  # without it: the base alone


def test_what_is_shown_of_a_merge_agrees(talking, make_artifact, texts, tmp_path):
    """Where texts measure the effect, no line calls the delta lost because of its weights."""
    out = tmp_path / "out"
    result = merge(
        talking, make_artifact(3e-2), out, "--format", "auto", "--target-residual", "0.6",
        "--without-peft", "--prompts", texts(1), "--check-prompts", texts(2),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    shown = " ".join((result.stdout + result.stderr).split())
    assert "output residual" in shown and "Retention" in shown
    shown += invoke("verify", out).stdout
    assert "by the weights: delta" not in shown and "LOST" not in shown


def test_options_reach_the_manifest(base, artifact, tmp_path):
    out, store = tmp_path / "out", tmp_path / "store"
    result = merge(
        base, artifact, out, "--format", "nf4", "--requantize", "recompute", "--formula",
        "diagonal", "--rng", "cuda", "--svd", "fast", "--numerics", "trainer", "--factor-store",
        store, "--max-shard-size", "50KB", "--device", "cpu", "--placement", '{"": 1}',
        "--trained-on", "16bit",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    options = json.loads((out / "export_manifest.json").read_text())["options"]
    assert options == {
        "format": "nf4", "requantize": "recompute", "fold_onto": None, "formula": "diagonal",
        "formula_evidence": "the formula option", "trained_on": "16bit",
        "rng": "cuda", "svd": "fast", "numerics": "trainer", "placement": {"": "cuda:1"},
        "calibration_prompts": None, "keep": None, "adapter_dtype": None,
        "max_shard_size": 50_000, "device": "cpu", "gguf_dtype": None,
    }  # fmt: skip
    assert len(list(store.glob("*.safetensors"))) == 14


def test_errors_go_to_stderr_with_exit_code_2(base, artifact, tmp_path):
    out = tmp_path / "out"
    for result, words in (
        (merge(tmp_path / "nowhere", artifact, out), "nowhere"),
        (merge(base, artifact, out, "--max-shard-size", "much"), "much"),
        (invoke("inspect", tmp_path / "none.pt"), "none.pt"),
        (invoke("verify", tmp_path), "no export"),
    ):
        assert result.exit_code == 2 and words in result.stderr and not result.stdout


def test_inspect(artifact, tmp_path):
    found, _ = answer("inspect", artifact)
    assert found["rank"] == 2 and found["seed"] == 42 and found["u"] == 8
    assert found["global_v"]["values"] == inspect_adapter(artifact).adapter.global_v.tolist()
    odd = tmp_path / "odd.pt"
    save_artifact(
        odd, global_v=torch.zeros(4), rank=2, seed=1, model_id="a/b", total_replaced_layers=13,
        is_quantized=False, saved_device="cuda:1",
    )  # fmt: skip
    found, _ = answer("inspect", odd)
    assert (found["formula"], found["trained_on"]) == ("diagonal", "16bit")
    assert "is_quantized" in found["formula_evidence"]
    shown = invoke("inspect", odd)
    for expected in ("all zeros", "no multiple of 7", "first GPU"):
        assert shown.exit_code == 0 and expected in " ".join(shown.stdout.split())


@pytest.mark.parametrize("stage", ["effect", "fold"])  # while it chooses, and while it writes
def test_sigterm_leaves_nothing_in_tmp(talking, make_artifact, texts, tmp_path, monkeypatch, stage):
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    seen = []

    def ended(request, show):
        def progress(step):
            if step.stage == stage and not seen:
                seen.extend(scratch.iterdir())
                os.kill(os.getpid(), signal.SIGTERM)
            show(step)

        return export(request, progress)

    monkeypatch.setattr("exporter.make_export.export", ended)
    arguments = [
        talking, make_artifact(3e-3), tmp_path / "out", "--format", "nf4-mixed",
        "--target-residual", "0.8", "--prompts", texts(1),
    ]  # fmt: skip
    before = signal.getsignal(signal.SIGTERM)
    result = merge(*arguments)
    assert result.exit_code == 143, result.output
    assert signal.getsignal(signal.SIGTERM) is before
    assert seen and not list(scratch.iterdir())
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert merge(*arguments).exit_code == 0


def test_merge_with_goals(talking, make_artifact, texts, tmp_path):
    out = tmp_path / "out"
    result = merge(
        talking, make_artifact(3e-2), out, "--format", "nf4-mixed", "--requantize", "calibrated",
        "--prompts", texts(1), "--check-prompts", texts(2), "--target-residual", "0.3",
        "--max-bytes", "1MB",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "chosen: nf4-mixed (calibrated)" in result.stdout and "this export" in result.stdout
    manifest = json.loads((out / "export_manifest.json").read_text())
    assert manifest["retention"]["output_residual"] < 1
    assert manifest["options"]["calibration_prompts"] is not None
    assert "## Retention" in (out / "README.md").read_text()


def test_a_required_retention(talking, make_artifact, texts, tmp_path):
    artifact, out = make_artifact(3e-3), tmp_path / "out"
    asked = [talking, artifact, out, "--format", "bf16", "--check-prompts", texts(1)]
    result = merge(*asked, "--require-retention", "1")
    assert result.exit_code == 1
    assert "1 is required; nothing was written" in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())
    assert merge(*asked, "--require-retention", "0.5").exit_code == 0
    again = ["verify", out, "--base", talking, "--artifact", artifact, "--prompts", texts(1)]
    kept = invoke(*again, "--require-retention", "0.5")
    assert kept.exit_code == 0 and "ok   retention" in kept.stdout
    gone = invoke(*again, "--require-retention", "1")
    assert gone.exit_code == 1 and "FAIL retention" in gone.stdout
    assert "1 is required" in gone.stderr


def test_merge_and_verify_print_one_json_object(base, artifact, tmp_path):
    out = tmp_path / "out"
    inputs = ("--base", base, "--artifact", artifact)
    made, code = answer("merge", *inputs, "--out", out, "--format", "bf16")
    assert (code, made["ok"], made["format"], made["out"]) == (0, True, "bf16", str(out))
    manifest = json.loads((out / "export_manifest.json").read_text())
    assert manifest["files"].items() <= made["files"].items()
    fidelity = json.loads((out / "fidelity.json").read_text())
    assert made["fidelity"] == fidelity["total"]
    found, code = answer("verify", out)
    assert (code, found["ok"], found["checks"][0]["problems"]) == (0, True, [])
    (out / "config.json").write_text("{}")
    found, code = answer("verify", out)
    assert (code, found["ok"]) == (1, False)
    assert any("config.json has been changed" in p for c in found["checks"] for p in c["problems"])


def test_an_error_is_an_object_too(base, artifact, tmp_path):
    asked = ("merge", "--base", base, "--artifact", artifact, "--out", tmp_path / "out")
    found, code = answer(*asked, "--format", "nf4", "--require-capture", "1")
    assert (code, found["ok"], found["error"]["kind"]) == (1, False, "CaptureError")
    assert list(tmp_path.iterdir()) == []
    found, code = answer("inspect", tmp_path / "none.pt")
    assert code == 2 and "none.pt" in found["error"]["message"]
