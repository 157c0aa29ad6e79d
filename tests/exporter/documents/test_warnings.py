"""What an export warns of although its measures are perfect."""

import json
import shutil

import pytest

from exporter import export, inspect_adapter, verify
from exporter.compare.retention import Divergence, Retention
from exporter.errors import CheckpointError
from exporter.request import ExportRequest
from tinylora import DeltaOptions

SIZE = 3e-3


def about(report, words):
    """Whether screen, card and manifest warn in these words; all three or none."""
    card = (report.out / "README.md").read_text()
    manifest = json.loads((report.out / "export_manifest.json").read_text())
    found = {
        any(words in warning for warning in report.warnings),
        words in card,
        any(words in warning for warning in manifest["warnings"]),
    }
    assert len(found) == 1
    return found.pop()


def test_a_base_of_another_name(base, make_artifact, run):
    assert about(run(base, make_artifact(SIZE, model_id="qwen/Another-3B"), "lora"), "Another-3B")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"svd": "fast"}, "relative signs"), ({"rng": "cuda"}, "cpu stream")],
)
def test_a_delta_that_may_be_another(base, artifact, run, options, words):
    report = run(base, artifact, "lora", options=DeltaOptions(**options))
    assert report.verdict == "kept"  # of the delta that was asked for
    assert about(report, words)
    assert not about(run(base, artifact, "lora", name="auto"), "may not be the trained delta")


def test_weights_that_training_did_not_see(base, artifact, run):
    report = run(base, artifact, "fp32", fold_onto="original")
    assert report.verdict == "kept"
    assert about(report, "Training had the base in 4 bits")
    usual = run(base, artifact, "fp32", name="usual")
    assert not about(usual, "fold-onto")


def test_upstream_stays_upstream_as_a_peft_adapter(base, artifact, run):
    """PEFT's own adapters are trained on 16-bit weights; one that was exported here is not."""
    adapter = run(base, artifact, "peft-tinylora", name="adapter").out
    assert "in 4 bits" in inspect_adapter(adapter).remarks[-1]
    assert about(run(base, adapter, "fp32", fold_onto="original"), "Training had the base in 4")
    assert not about(run(base, adapter, "fp32", name="usual"), "fold-onto")
    (adapter / "export_manifest.json").unlink()
    assert "on 16-bit weights" in inspect_adapter(adapter).remarks[-1]
    peft = run(base, adapter, "fp32", name="peft", fold_onto="dequantized")
    assert about(peft, "trained on 16-bit weights")
    assert not about(run(base, adapter, "fp32", name="own"), "bits")


@pytest.mark.parametrize("format", ["bf16", "nf4"])
def test_a_base_that_has_the_delta_already(base, make_artifact, run, tmp_path, format):
    artifact = make_artifact(0.1)  # large enough to move codes
    merged = run(base, artifact, format, name="merged").out
    with pytest.raises(CheckpointError, match="export_manifest.json.*a second time"):
        run(merged, artifact, "nf4")
    assert not (tmp_path / "out").exists()
    run(merged, make_artifact(2 * SIZE), "nf4")  # another adapter may have been trained on it


def test_a_base_on_which_nothing_moved_is_the_base_still(base, make_artifact, run):
    lost = make_artifact(3e-5)
    first = run(base, lost, "nf4", name="first")
    assert first.verdict == "lost" and first.fidelity.total.capture == 0
    assert run(first.out, lost, "fp32").verdict == "kept"


def test_a_checkpoint_without_a_tokenizer(talking, base, artifact, run, tmp_path):
    assert about(run(base, artifact, "nf4-embedded"), "no tokenizer")
    assert not about(run(base, artifact, "lora", name="lora"), "no tokenizer")
    named = tmp_path / "tiny-qwen"
    shutil.copytree(talking, named)
    report = export(ExportRequest(named, artifact, tmp_path / "talking", format="nf4-embedded"))
    assert report.warnings == ()


def test_texts_decide_whether_the_delta_is_lost(talking, make_artifact, texts, run):
    """Not capture and residual of the weights, by which codes chosen by texts look lost."""
    artifact, calibrated = make_artifact(3e-2), {"requantize": "calibrated", "prompts": texts(1)}
    unknown = run(talking, artifact, "nf4", **calibrated, name="unknown")
    assert about(unknown, "the retention") and not about(unknown, "LOST")
    measured = run(talking, artifact, "nf4", **calibrated, check_prompts=texts(2))
    assert 0.1 < measured.retention.output_residual < 0.9 and measured.effect_measured
    assert about(measured, "That counts here") and not about(measured, "LOST")


def test_a_zero_delta_is_said_with_texts_too(talking, make_artifact, texts, run):
    report = run(talking, make_artifact(0.0), "auto", prompts=texts(1), target_residual=0.5)
    assert about(report, "this export is the base") and not report.effect_measured


def test_a_loss_that_texts_show_too_is_a_loss(talking, make_artifact, texts, run):
    report = run(talking, make_artifact(3e-4), "nf4", check_prompts=texts(2))
    assert report.retention.output_residual > 0.9
    assert about(report, "THE DELTA WAS LOST")


def test_an_effect_that_texts_show_lost_is_lost_though_the_weights_hold_the_delta(
    talking, make_artifact, texts, run
):
    fields = {"fold_onto": "original", "check_prompts": texts(2)}
    report = run(talking, make_artifact(3e-4), "fp32", **fields)
    assert report.verdict == "kept" and report.retention.output_residual > 1
    assert about(report, "THE DELTA WAS LOST")
    check = verify(report.out, serves="transformers").checks[-1]
    assert "logits miss" in check.problems[0]


def test_a_target_that_other_texts_miss_is_said(talking, artifact, texts, run, monkeypatch):
    far, near = (Divergence(x, x, x, 0.5, x) for x in (1.0, 0.0))
    lost = Retention("digest", 10, far, far, near, near, near)
    monkeypatch.setattr("exporter.make_export.measure_retention", lambda *_, **__: lost)
    report = run(talking, artifact, "auto", check_prompts=texts(2), target_residual=0.5)
    assert about(report, "is 1, above the target 0.5 ")
