"""What of the golden vectors of a GPU's stream can be known without a GPU."""

import pytest
import torch

from tests.gpu import device_stream as gpu


def test_recorded_vectors_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "DRAWS", 3)
    monkeypatch.setattr(gpu, "RECORDED_DRAWS", (0, 1, 2))
    path = tmp_path / "golden.json"
    gpu.record(path, lambda *draw: gpu.emulated_draws(*draw).to(torch.bfloat16), "emulation")
    found = list(gpu.golden(path))
    assert len(found) == 24
    for shape, seed, draw, values in found:
        assert torch.equal(values, gpu.emulated_draws(shape, seed)[draw].to(torch.bfloat16))


def test_only_values_on_a_rounding_border_are_explained():
    exact = gpu.emulated_draws((32, 2), 42)
    drawn = exact.to(torch.bfloat16)
    assert gpu.differing(drawn, exact) == (0, 0)
    border = exact.clone()  # halfway between two bf16 numbers, a little to either side
    border[0, :2] = torch.tensor([1 + 2**-8 + 1e-6, 1 + 2**-8 - 1e-6])
    other = border.to(torch.bfloat16)
    other[0, :2] = torch.tensor([1.0, 1 + 2**-7])
    assert gpu.differing(other, border) == (2, 0)
    other[0, 2] = -other[0, 2]
    assert gpu.differing(other, border) == (3, 1)


def test_golden_vectors_of_a_device_are_the_emulations():
    if not gpu.GOLDEN.exists():
        pytest.skip("no golden vectors have been recorded from a device yet")
    for shape, seed, draw, values in gpu.golden():
        exact = gpu.emulated_draws(shape, seed)[draw]
        assert gpu.differing(values, exact)[1] == 0
