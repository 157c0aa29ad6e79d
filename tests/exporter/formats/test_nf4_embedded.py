"""The base beside its adapter; also with 36 layers, 252 modules and the real artifact."""

import pytest
import torch
from safetensors.torch import load_file

from exporter import verify


@pytest.fixture(scope="module")
def deep_base(make_base):
    return make_base(num_hidden_layers=36, hidden_size=32, intermediate_size=64)


@pytest.mark.slow
def test_the_real_artifact(deep_base, shared_data, run, tmp_path):
    artifact, store = shared_data / "tiny_lora_v.pt", tmp_path / "factors"
    embedded = run(deep_base, artifact, "nf4-embedded", name="embedded", factor_store=store)
    assert embedded.resolved.formula == "full" and embedded.resolved.rng == "cuda"
    assert embedded.verdict == "kept" and embedded.fidelity.total.residual < 1e-6
    assert len(embedded.fidelity.modules) == 252
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
