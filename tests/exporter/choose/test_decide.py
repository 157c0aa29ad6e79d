"""What is decided before anything is written: the first format that reaches the target."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from exporter import ExportRequest, export, verify
from exporter.errors import PromptError, TargetResidualError


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"prompts": Path("no/texts.jsonl")}, PromptError, "no/texts.jsonl"),
        ({"check_prompts": Path("no/texts.jsonl")}, PromptError, "no/texts.jsonl"),
        ({"max_bytes": 100_000}, TargetResidualError, "--max-bytes 100000: .* up to 1"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(
    talking, artifact, texts, tmp_path, changes, error, words
):
    fields = {"format": "nf4-mixed", "prompts": texts(1), "target_residual": 0.5} | changes
    request = ExportRequest(talking, artifact, tmp_path / "out", **fields)
    steps = []
    with pytest.raises(error, match=words):
        export(request, steps.append)
    assert steps == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("size", "target", "without_peft", "format"),
    [
        (0.5, 0.9, False, "nf4"),
        (1e-3, 0.2, False, "nf4-embedded"),
        (3e-2, 0.3, True, "nf4-mixed"),
        (1e-4, 0.02, True, "fp32"),
    ],
)
def test_auto_takes_the_first_that_meets_the_target(
    talking, make_artifact, run, texts, size, target, without_peft, format
):
    goal = {"prompts": texts(1), "target_residual": target, "without_peft": without_peft}
    report = run(talking, make_artifact(size), "auto", **goal)
    assert report.format == report.choice.chosen.format == format
    assert report.choice.chosen.residual <= target
    trials = report.choice.trials
    assert all(trial.residual > target for trial in trials[:-1])
    names = [trial.format for trial in trials]
    order = ["nf4", "nf4-embedded", "nf4-mixed", "bf16", "fp16", "fp32"]
    assert names == sorted(names, key=order.index)
    assert not without_peft or "nf4-embedded" not in names
    manifest = json.loads((report.out / "export_manifest.json").read_text())
    assert manifest["options"]["format"] == format
    recorded = manifest["choice"]
    assert recorded["measured_on"] == "output" and recorded["target"] == target
    assert [t["format"] for t in recorded["trials"]] == [t.format for t in trials]
    for trial in trials[:-1]:
        assert f"{trial.format}/{trial.requantize or '-'}" in report.choice.sentence
    assert verify(report.out, load=True).ok


def test_auto_without_texts_goes_by_the_weights(talking, make_artifact, run):
    report = run(talking, make_artifact(3e-2), "auto", target_residual=0.5, without_peft=True)
    assert report.choice.measured_on == "weights" and report.format == "bf16"
    assert [t.format for t in report.choice.trials] == ["nf4", "nf4", "bf16"]
    # what was predicted is what the finished files' own measures say
    assert report.choice.chosen.residual == pytest.approx(report.fidelity.total.residual, rel=1e-5)
    nf4 = run(talking, make_artifact(3e-2), "nf4", name="nf4")
    assert report.choice.trials[0].residual == pytest.approx(nf4.fidelity.total.residual, rel=1e-5)


def test_auto_says_where_even_fp32_is_too_coarse(base, make_artifact, run, tmp_path):
    with pytest.raises(TargetResidualError, match=r"the best is fp32 with 0\.0.*nf4-embedded"):
        run(base, make_artifact(3e-5), "auto", target_residual=1e-5, without_peft=True)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_too_large_for_fp16_is_no_number_that_json_lacks(make_base, make_artifact, run):
    base = make_base()
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] *= 1e7
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    report = run(base, make_artifact(3e-3), "auto", target_residual=1e-3, without_peft=True)
    assert report.format == "fp32"
    text = (report.out / "export_manifest.json").read_text()
    assert "Infinity" not in text and "NaN" not in text
