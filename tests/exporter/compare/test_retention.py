"""Token-level retention beside a float64 reference that shares no code with it."""

from dataclasses import replace

import pytest
import torch

from exporter import ExportRequest, export
from exporter.compare.prompts import read_prompts
from exporter.compare.retention import measure_retention
from exporter.errors import FoldError
from tests.exporter.dense_reference import dense_logits, distance, restored_weights, weights_of
from tinylora import DeltaOptions

OPTIONS = DeltaOptions()
SIZE = 3e-3


def reference_kl(one, two):
    """Σ p (ln p − ln q) term by term in float64."""
    p = one.double().exp() / one.double().exp().sum(dim=1, keepdim=True)
    q = two.double().exp() / two.double().exp().sum(dim=1, keepdim=True)
    return (p * (p.log() - q.log())).sum(dim=1)


@pytest.fixture(scope="module")
def prompts(talking, texts):
    return read_prompts(texts(1), talking)


@pytest.fixture(scope="module")
def measured(talking, make_artifact, prompts, tmp_path_factory):
    """``measured(size, format)``: an export and its retention, each made once."""
    known = {}

    def measure(size, format):
        if (size, format) not in known:
            out = tmp_path_factory.mktemp("retention") / "out"
            artifact = make_artifact(size)
            export(ExportRequest(talking, artifact, out, format=format))
            known[size, format] = measure_retention(out, talking, artifact, OPTIONS, prompts), out
        return known[size, format]

    return measure


@pytest.mark.parametrize("format", ["nf4", "bf16"])
def test_against_dense_float64_models(talking, references, prompts, measured, format):
    size = 0.3  # large enough for KL to differ by direction
    found, out = measured(size, format)
    ids = [prompt.token_ids for prompt in prompts.prompts]
    truth = references(talking, size)
    models = [restored_weights(truth, 1.0), restored_weights(truth, 0.0), weights_of(out)]
    restored, base, exported = (
        [
            logits[prompt.first :]
            for logits, prompt in zip(dense_logits(talking, w, ids), prompts.prompts, strict=True)
        ]
        for w in models
    )
    for divergence, logits in ((found.base, base), (found.export, exported)):
        expected = reference_kl(torch.cat(restored), torch.cat(logits))
        assert divergence.mean == pytest.approx(float(expected.mean()), rel=1e-3)
        assert divergence.largest == pytest.approx(float(expected.max()), rel=1e-3)
        assert divergence.p99 == pytest.approx(float(expected.quantile(0.99)), rel=1e-3)
        assert divergence.logit_distance == pytest.approx(distance(restored, logits), rel=1e-3)
        same = torch.cat(restored).argmax(dim=1) == torch.cat(logits).argmax(dim=1)
        assert divergence.top1_agreement == pytest.approx(float(same.double().mean()), abs=0.02)
    kl = [float(reference_kl(torch.cat(restored), torch.cat(x)).mean()) for x in (exported, base)]
    assert found.value == pytest.approx(1 - kl[0] / kl[1], abs=2e-3)
    residual = distance(restored, exported) / distance(restored, base)
    assert found.output_residual == pytest.approx(residual, rel=2e-3)
    assert found.tokens == sum(len(logits) for logits in restored)


def test_what_keeps_the_delta_has_retention_1(measured):
    embedded, exact = measured(SIZE, "nf4-embedded")[0], measured(SIZE, "fp32")[0]
    assert embedded.value > 0.999 and embedded.output_residual < 0.02
    assert exact.value > 0.99999 and exact.output_residual < 1e-3
    assert not exact.kept.loss_seen and exact.kept.at_least > 0.9999
    assert exact.visible and "No loss can be seen" in exact.sentence
    assert exact.floor == exact.folded.mean > exact.repeat.mean > 0


def test_what_lost_the_delta_has_retention_0(measured):
    lost, _ = measured(1e-4, "nf4")
    assert lost.visible
    assert abs(lost.value) < 1e-3
    assert lost.output_residual == pytest.approx(1, abs=1e-3)
    assert not lost.visible_in_half_precision and "smaller than what" in lost.sentence


def test_a_zero_artifact_says_that_nothing_can_be_said(measured):
    found, _ = measured(0.0, "nf4")
    assert found.value is None and found.output_residual is None and not found.visible
    assert found.base.mean == 0 and found.base.logit_distance == 0
    assert "nothing can be said" in found.sentence and "--float64" not in found.sentence
    assert found.as_dict()["retention"] is None
    assert "nothing can be said" in found.shortfall(0.1)


def test_logits_that_overflow_are_refused(measured):
    """No JSON has a number for them, and no comparison a meaning."""
    with pytest.raises(FoldError, match="logits are not finite"):
        measured(1e25, "nf4-embedded")


def test_float64_shows_what_float32_cannot(talking, make_artifact, prompts, tmp_path):
    artifact, out = make_artifact(3e-7), tmp_path / "out"
    export(ExportRequest(talking, artifact, out, format="nf4-embedded"))
    narrow, wide = (
        measure_retention(out, talking, artifact, OPTIONS, prompts, float64=wanted)
        for wanted in (False, True)
    )
    assert narrow.kept is None or narrow.kept.at_least < 0.99
    assert wide.kept.at_least > 0.999 and wide.floor < narrow.floor / 100
    assert wide.base.mean == pytest.approx(narrow.base.mean, rel=0.2)
    assert "--float64" not in wide.sentence and wide.as_dict()["arithmetic"] == "float64"


def test_what_is_required_and_how_much_was_read(measured):
    found, _ = measured(SIZE, "nf4")
    assert found.shortfall(found.value) is None
    assert "is required" in found.shortfall(found.value + 1e-9)
    assert "few tokens" in replace(found, tokens=199).sentence
    assert "few tokens" not in replace(found, tokens=200).sentence


def test_the_same_digits_again_and_over_thread_counts(talking, make_artifact, prompts, measured):
    first, out = measured(SIZE, "nf4-embedded")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = measure_retention(out, talking, make_artifact(SIZE), OPTIONS, prompts)
    finally:
        torch.set_num_threads(threads)
    assert again == first
