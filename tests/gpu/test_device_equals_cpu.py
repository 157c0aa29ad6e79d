"""Factors and restored logits on the device against the same on the CPU."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tinylora import (
    AdapterDeltas,
    Artifact,
    QuantizedWeight,
    fast_factors,
    load_artifact,
    restore,
    save_artifact,
)

CUDA = torch.device("cuda")


def weight(shape=(512, 768)):
    generator = torch.Generator().manual_seed(0)
    spikes = torch.randn(shape[0], 4, generator=generator) @ torch.randn(
        4, shape[1], generator=generator
    )
    return (torch.randn(shape, generator=generator) * 0.02 + spikes * 0.02).to(torch.bfloat16)


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "v.pt"
    save_artifact(
        path,
        global_v=torch.full((32,), 2e-2),
        rank=2,
        seed=42,
        model_id="tiny",
        total_replaced_layers=14,
        formula="full",
    )
    return load_artifact(path)


@pytest.mark.parametrize("shape", [(512, 768), (768, 512)])
def test_fast_factors(shape):
    W = weight(shape).float()
    host, device = fast_factors(W, 2), fast_factors(W.cuda(), 2)
    assert torch.allclose(host.S, device.S, rtol=1e-5)
    assert torch.allclose(host.U, device.U, atol=1e-4)
    assert torch.allclose(host.Vh, device.Vh, atol=1e-4)


def test_restored_logits(tiny_base, artifact):
    ids = torch.arange(2, 26).view(2, 12)
    logits = []
    for device in ("cpu", "cuda"):
        model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).to(device)
        restore(model, artifact)
        with torch.no_grad():
            logits.append(model(ids.to(device)).logits.cpu())
    assert torch.allclose(*logits, atol=1e-4)


def test_dequantized_values():
    quantized = QuantizedWeight.quantize(weight())
    assert torch.equal(quantized.to(CUDA).dequantize().cpu(), quantized.dequantize())


def test_deltas_from_factors_of_the_device():
    """ΔW from the device's factors equals the CPU's up to float32, where signs do not matter."""
    W = weight().float()
    vector = torch.full((8,), 1e-2)
    names = ["a"]
    dense = []
    for where in ("cpu", "cuda"):
        factors = fast_factors(W.to(where), 2)
        artifact = Artifact(
            path=Path("v.pt"),
            global_v=vector,
            u=8,
            rank=2,
            seed=1,
            model_id="m",
            total_replaced_layers=1,
            is_quantized=True,
            saved_device="cuda:0",
            sha256="",
        )
        dense.append(AdapterDeltas(artifact, names).delta_of("a", factors).dense())
    # bf16 rounding of the factors may fall the other way for a few entries
    assert (dense[0] - dense[1]).norm() <= 2e-3 * dense[0].norm()
