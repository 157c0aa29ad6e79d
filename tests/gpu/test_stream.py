"""The emulated stream against the device's own `torch.randn`.

A GPU rounds the angle of the Box-Muller transform to float32 and approximates its sine, so a value
that lies within a few 1e-7 of the border between two bf16 numbers may round to the other one. The
first test counts such values and asserts that each is exactly that case.
"""

import json
import math
from pathlib import Path

import pytest
import torch

from tinylora import philox_normal
from tinylora.philox import offset_increment

SEEDS = [0, 42, 20260306, 2**63 - 1]
DRAWS = 300
DEVICE_ERROR = 2e-6
GOLDEN = Path(__file__).parents[1] / "tinylora" / "golden_device_stream.json"


def device_draws(shape, seed, dtype):
    with torch.random.fork_rng(devices=[0]):
        torch.manual_seed(seed)
        drawn = [torch.randn(shape, device="cuda", dtype=dtype).cpu() for _ in range(DRAWS)]
    return torch.stack(drawn).view(DRAWS, -1)


def emulated_draws(numel, seed):
    step = offset_increment(numel)
    return torch.stack([philox_normal(numel, seed, step * i) for i in range(DRAWS)])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(32, 2, 2), (32, 2)])
def test_300_consecutive_bf16_draws(shape, seed, record_property):
    device = device_draws(shape, seed, torch.bfloat16)
    exact = emulated_draws(math.prod(shape), seed)
    emulated = exact.to(torch.bfloat16)
    differs = device != emulated
    record_property("differing values", int(differs.sum()))
    # every differing value sits on a rounding border: moving it by the device's error decides
    low, high = (exact[differs] + e for e in (-DEVICE_ERROR, DEVICE_ERROR))
    between = (low.to(torch.bfloat16) == device[differs]) | (
        high.to(torch.bfloat16) == device[differs]
    )
    assert bool(between.all())
    assert differs.float().mean() < 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_float32_draws_agree_to_the_devices_sine(seed):
    device = device_draws((32, 2, 2), seed, torch.float32)
    assert (device - emulated_draws(128, seed)).abs().max() < DEVICE_ERROR


@pytest.mark.parametrize("numel", [1000, 300_000, 5_000_000])
def test_large_tensors_use_more_than_one_output_a_thread(numel, device_threads):
    with torch.random.fork_rng(devices=[0]):
        torch.manual_seed(42)
        first, second = (torch.randn(numel, device="cuda").cpu() for _ in range(2))
    step = offset_increment(numel, device_threads)
    for offset, device in ((0, first), (step, second)):
        emulated = philox_normal(numel, 42, offset, device_threads=device_threads)
        assert (device - emulated).abs().max() < 1e-5


def test_golden_vectors_of_a_device():
    if not GOLDEN.exists():
        pytest.skip("no golden vectors have been recorded from a device yet")
    for name, values in json.loads(GOLDEN.read_text()).items():
        seed = int(name.rpartition("=")[2])
        device = device_draws((32, 2, 2), seed, torch.bfloat16)[0]
        assert device.view(torch.int16).tolist() == values
