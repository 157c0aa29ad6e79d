"""``auto``, what may be asked for together, and the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import TinyLoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from exporter import export, verify
from exporter.cli import app
from exporter.errors import PromptError, RequestError, TargetResidualError
from exporter.request import ExportRequest, Goal, check_request
from tests.exporter.talking import write_rows
from tinylora import DeltaOptions

TEXTS = Path("texts.jsonl")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"format": "auto"}, "needs --target-residual"),
        ({"format": "auto", "requantize": "recompute", "target_residual": 0.1}, "itself"),
        ({"format": "auto", "fold_onto": "original", "target_residual": 0.1}, "itself"),
        ({"format": "auto", "target_residual": 0.1, "max_bytes": 5}, "--max-bytes applies"),
        ({"format": "auto", "target_residual": 0.1, "keep": ("a",)}, "itself"),
        ({"format": "auto", "target_residual": 0.1, "adapter_dtype": "fp8"}, "'fp8' is unknown"),
        ({"format": "nf4-mixed", "target_residual": 0.1}, "needs --prompts"),
        ({"format": "nf4-mixed", "prompts": TEXTS}, "--target-residual, --max-bytes, or both"),
        ({"format": "nf4", "requantize": "calibrated"}, "calibrated needs --prompts"),
        ({"format": "nf4-mixed", "requantize": "calibrated", "keep": ("a",)}, "needs --prompts"),
        (
            {"format": "bf16", "requantize": "calibrated", "prompts": TEXTS},
            "applies to nf4",
        ),
        ({"format": "nf4", "prompts": TEXTS}, "--prompts has no use"),
        ({"format": "bf16", "prompts": TEXTS}, "--prompts has no use"),
        ({"format": "nf4", "keep": ("a",)}, "keep applies"),
        ({"format": "fp32", "keep": ("a",)}, "keep applies"),
        ({"format": "nf4", "target_residual": 0.1}, "--target-residual applies"),
        ({"format": "nf4", "max_bytes": 10}, "--max-bytes applies"),
        ({"format": "nf4", "without_peft": True}, "--without-peft applies"),
        ({"format": "lora", "check_prompts": TEXTS}, "load by itself"),
        ({"format": "peft-tinylora", "check_prompts": TEXTS}, "load by itself"),
        (
            {"format": "nf4-mixed", "fold_onto": "original", "keep": ("a",)},
            "applies to bf16",
        ),
        *[
            ({"format": "auto", "target_residual": bad}, "above 0 and below 1")
            for bad in (0, 1, -1, 2, float("nan"), float("inf"))
        ],
        ({"format": "nf4-mixed", "prompts": TEXTS, "max_bytes": 0}, "at least 1 byte"),
        ({"format": "nf8", "prompts": TEXTS}, "nf8"),
        ({"format": "nf4", "require_retention": 0.9}, "--require-retention needs --check-prompts"),
        *[
            ({"format": "nf4", "check_prompts": TEXTS, "require_retention": bad}, "a share above 0")
            for bad in (0, 1.01, float("nan"))
        ],
    ],
)
def test_contradictions_are_refused(fields, match):
    goal = {name: fields[name] for name in fields if name in Goal.__dataclass_fields__}
    rest = {name: value for name, value in fields.items() if name not in goal}
    request = ExportRequest(Path("base"), Path("a.pt"), Path("out"), goal=Goal(**goal), **rest)
    with pytest.raises(RequestError, match=match):
        check_request(request)


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
    goal = replace(Goal(prompts=texts(1), target_residual=0.5), **changes)
    request = ExportRequest(talking, artifact, tmp_path / "out", format="nf4-mixed", goal=goal)
    steps = []
    with pytest.raises(error, match=words):
        export(request, steps.append)
    assert steps == [] and not (tmp_path / "out").exists()


# --- auto ---------------------------------------------------------------------------------------


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


# --- PEFT adapters ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_peft_adapter_with_nf4_mixed(talking, texts, run, tmp_path):
    config = TinyLoraConfig(
        r=2, u=6, weight_tying=0.5, task_type="CAUSAL_LM", save_projection=True,
        target_modules=["q_proj", "v_proj", "down_proj"],
    )  # fmt: skip
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(talking), config)
    for vector in model.base_model.tinylora_v["default"].values():
        vector.data.copy_(torch.linspace(-0.3, 0.2, 6))
    model.peft_config["default"].base_model_name_or_path = "someone/tiny-qwen"
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    report = run(
        talking, tmp_path / "adapter", "nf4-mixed",
        goal=Goal(prompts=texts(1), target_residual=0.4, check_prompts=texts(2)),
    )  # fmt: skip
    keep = report.choice.chosen.keep
    assert keep and all(name.endswith(("q_proj", "v_proj", "down_proj")) for name in keep)
    assert report.retention.output_residual < 0.8
    assert verify(report.out, base=talking, artifact=tmp_path / "adapter", prompts=texts(2)).ok


# --- the command line ---------------------------------------------------------------------------


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
