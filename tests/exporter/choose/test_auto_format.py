"""``auto``: the first format that reaches the target."""

import json

import pytest
from safetensors.torch import load_file, save_file

from exporter import verify
from exporter.errors import TargetResidualError
from exporter.request import Goal
from tinylora import DeltaOptions


@pytest.mark.parametrize(
    ("size", "target", "without_peft", "format"),
    [
        (0.5, 0.9, False, "nf4"),
        (1e-3, 0.2, False, "nf4-embedded"),
        (3e-2, 0.3, True, "nf4-mixed"),
        (1e-3, 0.3, True, "fp16"),
        (1e-4, 0.02, True, "fp32"),
    ],
)
def test_auto_takes_the_first_that_meets_the_target(
    talking, make_artifact, run, texts, size, target, without_peft, format
):
    goal = Goal(prompts=texts(1), target_residual=target, without_peft=without_peft)
    report = run(talking, make_artifact(size), "auto", goal=goal)
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
    goal = Goal(target_residual=0.5, without_peft=True)
    report = run(talking, make_artifact(3e-2), "auto", goal=goal)
    assert report.choice.measured_on == "weights" and report.format == "bf16"
    assert [t.format for t in report.choice.trials] == ["nf4", "nf4", "bf16"]
    # what was predicted is what the finished files' own measures say
    assert report.choice.chosen.residual == pytest.approx(report.fidelity.total.residual, rel=1e-5)
    nf4 = run(talking, make_artifact(3e-2), "nf4", name="nf4")
    assert report.choice.trials[0].residual == pytest.approx(nf4.fidelity.total.residual, rel=1e-5)


@pytest.mark.parametrize(
    ("size", "target", "fields", "format"),
    [
        (3e-3, 1e-3, {"adapter_dtype": "fp16"}, "nf4-embedded"),
        (3e-3, 1e-5, {}, "nf4-embedded"),
        (3e-5, 5e-3, {"without_peft": True}, "fp32"),
        (3e-3, 0.05, {"options": DeltaOptions(numerics="trainer")}, "fp32"),
    ],
)
def test_what_auto_says_is_what_the_export_measures(
    base, make_artifact, run, size, target, fields, format
):
    without_peft = "without_peft" in fields
    rest = {name: value for name, value in fields.items() if name != "without_peft"}
    goal = Goal(target_residual=target, without_peft=without_peft)
    report = run(base, make_artifact(size), "auto", goal=goal, **rest)
    chosen = report.choice.chosen
    assert (report.format, chosen.format) == (format, format)
    assert chosen.residual == pytest.approx(report.fidelity.total.residual, rel=1e-3)
    assert (chosen.residual == 0) == (fields == {} and format == "nf4-embedded")
    assert sum(file.stat().st_size for file in report.out.glob("*.safetensors")) <= chosen.bytes


def test_a_rounded_pair_is_measured_on_texts(talking, make_artifact, run, texts):
    goal = Goal(prompts=texts(1), target_residual=0.01)
    wide, narrow = (
        run(talking, make_artifact(1e-3), "auto", name=dtype, goal=goal, adapter_dtype=dtype)
        for dtype in ("fp32", "fp16")
    )
    assert wide.format == narrow.format == "nf4-embedded"
    assert wide.choice.chosen.residual == 0 < narrow.choice.chosen.residual < 1e-3
    pair = load_file(narrow.out / "adapter_model.safetensors")
    saved = 2 * sum(tensor.numel() for tensor in pair.values())
    assert wide.choice.chosen.bytes - narrow.choice.chosen.bytes == pytest.approx(saved, rel=0.05)


def test_auto_says_where_even_fp32_is_too_coarse(base, make_artifact, run, tmp_path):
    goal = Goal(target_residual=1e-5, without_peft=True)
    with pytest.raises(TargetResidualError, match=r"the best is fp32 with 0\.0.*nf4-embedded"):
        run(base, make_artifact(3e-5), "auto", goal=goal)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_too_large_for_fp16_is_no_number_that_json_lacks(make_base, make_artifact, run):
    base = make_base()
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] *= 1e7
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    goal = Goal(target_residual=1e-3, without_peft=True)
    report = run(base, make_artifact(3e-3), "auto", goal=goal)
    assert report.format == "fp32"
    text = (report.out / "export_manifest.json").read_text()
    assert "Infinity" not in text and "NaN" not in text
