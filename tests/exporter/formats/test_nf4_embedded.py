"""The base beside its adapter; also with 36 layers, 252 modules and a delta of real size."""

import json

import pytest
import torch
from safetensors.torch import load_file

from exporter import verify
from tinylora import save_artifact


@pytest.fixture(scope="module")
def deep_base(make_base):
    return make_base(num_hidden_layers=36, hidden_size=32, intermediate_size=64)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    path = tmp_path_factory.mktemp("stand-in") / "tiny_lora_v.pt"
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0)) * 3e-5
    save_artifact(
        path, global_v=vector, rank=2, seed=42, model_id="qwen/Qwen2.5-Coder-3B-Instruct",
        total_replaced_layers=252, formula="full",
    )  # fmt: skip
    return path


def check_embedded(report):
    assert report.resolved.formula == "full" and report.resolved.rng == "cuda"
    assert report.verdict == "kept" and report.fidelity.total.residual < 1e-6
    assert len(report.fidelity.modules) == 252
    manifest = json.loads((report.out / "export_manifest.json").read_text())
    assert manifest["artifact"]["total_replaced_layers"] == 252


def test_a_stand_in_artifact(deep_base, stand_in, run):
    report = run(deep_base, stand_in, "nf4-embedded")
    check_embedded(report)
    assert verify(report.out, load=True).ok


@pytest.mark.slow
def test_the_real_artifact(deep_base, shared_data, run, tmp_path):
    artifact, store = shared_data / "tiny_lora_v.pt", tmp_path / "factors"
    embedded = run(deep_base, artifact, "nf4-embedded", name="embedded", factor_store=store)
    check_embedded(embedded)
    nf4 = run(deep_base, artifact, "nf4", name="nf4", factor_store=store)
    assert nf4.verdict == "lost" and nf4.fidelity.total.capture == 0
    assert (embedded.out / "model.safetensors").read_bytes() == (
        nf4.out / "model.safetensors"
    ).read_bytes(), "no code moved, so both hold the quantized base"
    report = verify(embedded.out, load=True, base=deep_base, artifact=artifact)
    assert report.ok and report.logits.residual < 0.05


@pytest.mark.parametrize("source", ["base", "base_4bit"])
def test_embedded_base_tensors_are_unchanged(source, base_4bit, artifact, run, request):
    report = run(request.getfixturevalue(source), artifact, "nf4-embedded")
    found, wanted = (load_file(path / "model.safetensors") for path in (report.out, base_4bit))
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)), name
    if source == "base_4bit":
        assert (report.out / "config.json").read_bytes() == (base_4bit / "config.json").read_bytes()
