"""The emulated stream against the device's own `torch.randn`."""

import pytest
import torch

from tests.gpu.device_stream import (
    DEVICE_ERROR,
    GOLDEN,
    SEEDS,
    SHAPES,
    device_draws,
    differing,
    emulated_draws,
    golden,
)
from tinylora import philox_normal
from tinylora.philox import offset_increment


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_300_consecutive_bf16_draws(shape, seed, record_property):
    """Every differing value sits on a rounding border."""
    drawn = device_draws(shape, seed)
    count, unexplained = differing(drawn, emulated_draws(shape, seed))
    record_property("differing values", count)
    assert unexplained == 0
    assert count < 1e-3 * drawn.numel()


@pytest.mark.parametrize("seed", SEEDS)
def test_float32_draws_agree_to_the_devices_sine(seed):
    drawn = device_draws((32, 2, 2), seed, torch.float32)
    assert (drawn - emulated_draws((32, 2, 2), seed)).abs().max() < DEVICE_ERROR


@pytest.mark.parametrize("numel", [1000, 300_000, 5_000_000])
def test_large_tensors_use_more_than_one_output_a_thread(numel, device_threads):
    with torch.random.fork_rng(devices=[0]):
        torch.manual_seed(42)
        first, second = (torch.randn(numel, device="cuda").cpu() for _ in range(2))
    step = offset_increment(numel, device_threads)
    for offset, device in ((0, first), (step, second)):
        emulated = philox_normal(numel, 42, offset, device_threads=device_threads)
        # the largest of so many values, 6.7, have the largest spacing
        assert (device - emulated).abs().max() < 2 * DEVICE_ERROR


def test_golden_vectors_of_a_device():
    """This device draws what another one drew when the vectors were recorded."""
    if not GOLDEN.exists():
        pytest.skip("no golden vectors have been recorded from a device yet")
    for shape, seed, draw, values in golden():
        assert torch.equal(device_draws(shape, seed)[draw], values)
