"""Factors and restored logits on the device against the same on the CPU."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.random_base import trained_like
from tinylora import AdapterDeltas, fast_factors, load_artifact, restore
from tinylora.adapters.upstream.deltas import ArtifactModuleDelta


@pytest.mark.parametrize("shape", [(512, 768), (768, 512)])
def test_fast_factors(shape):
    W = trained_like(shape).float()
    host, device = fast_factors(W, 2), fast_factors(W.cuda(), 2)
    assert torch.allclose(host.S, device.S, rtol=1e-5)
    assert torch.allclose(host.U, device.U, atol=1e-4)
    assert torch.allclose(host.Vh, device.Vh, atol=1e-4)


def test_restored_logits(tiny_base, write_artifact):
    artifact = load_artifact(write_artifact(2e-2))
    ids = torch.arange(2, 26).view(2, 12)
    logits = []
    for device in ("cpu", "cuda"):
        model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).to(device)
        restore(model, artifact)
        with torch.no_grad():
            logits.append(model(ids.to(device)).logits.cpu())
    assert torch.allclose(*logits, atol=1e-4)


def test_deltas_from_factors_of_the_device(write_artifact):
    """ΔW from the device's factors equals the CPU's up to float32, where signs do not matter."""
    W, artifact = trained_like((512, 768)).float(), load_artifact(write_artifact(1e-2))
    deltas = AdapterDeltas(artifact, ["a"])
    host, device = (
        ArtifactModuleDelta(deltas, 0, fast_factors(where, 2)).low_rank().dense()
        for where in (W, W.cuda())
    )
    # bf16 rounding of the factors may fall the other way for a few entries
    assert (host - device).norm() <= 2e-3 * host.norm()
