"""The emulated CUDA stream against known answers and against a scalar loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tinylora.plain_projections import philox
from tinylora import philox_normal
from tinylora.errors import ProjectionError
from tinylora.philox import (
    SMALLEST_DEVICE_THREADS,
    _box_muller,
    offset_increment,
    philox4x32,
)

# torch.randn(12, device="cuda") after torch.manual_seed(0)
SEED_0 = [
    -0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564,
    -0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497,
]  # fmt: skip
PI = ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], 0x299F31D0A4093822)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the generator's published test vectors
        ([0] * 4, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (*PI, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ],
)
def test_philox_words(counter, key, expected):
    found = philox4x32(tuple(map(torch.tensor, counter)), (key & 0xFFFFFFFF, key >> 32))
    assert [int(word) for word in found] == expected


def test_known_answer_of_seed_0():
    drawn = philox_normal(12, 0)
    assert drawn.dtype == torch.float32
    assert (drawn.double() - torch.tensor(SEED_0, dtype=torch.float64)).abs().max() <= 3e-7


def kernel_loop(numel, seed, offset, threads):
    """What the GPU's kernel does, thread by thread, written as a loop."""
    out = [math.nan] * numel
    for thread in range(threads):
        position, base = offset // 4, thread
        while base < numel:
            counter = (position & 0xFFFFFFFF, position >> 32, thread, 0)
            words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
            words = [float(np.float32(word)) for word in words]
            for pair in (0, 2):
                radius = math.sqrt(-2 * math.log(words[pair] * 2.0**-32 + 2.0**-33))
                angle = 2 * math.pi * (words[pair + 1] * 2.0**-32 + 2.0**-33)
                for turn, value in enumerate((math.sin(angle), math.cos(angle))):
                    element = base + threads * (pair + turn)
                    if element < numel:
                        out[element] = radius * value
            position += 1
            base += 4 * threads
    return out


@given(
    numel=st.integers(1, 3000),
    seed=st.sampled_from([0, 42, 20260306, 2**63 - 1, 2**64 - 1]),
    offset=st.sampled_from([0, 4, 1004, 4 * (2**32 + 1)]),
    blocks=st.integers(1, 3),
)
def test_equals_a_loop_over_the_kernels_threads(numel, seed, offset, blocks):
    drawn = philox_normal(numel, seed, offset, device_threads=256 * blocks)
    threads = 256 * min(blocks, -(-numel // 256))
    expected = torch.tensor(kernel_loop(numel, seed, offset, threads), dtype=torch.float64)
    assert torch.allclose(drawn.double(), expected, rtol=0, atol=3e-7)


def test_offset_advances_by_four_for_every_projection():
    assert [offset_increment(n) for n in (0, 1, 64, 128, 4096)] == [0, 4, 4, 4, 4]
    assert [offset_increment(n, device_threads=256) for n in (1024, 1025)] == [4, 8]


def test_large_draws_need_the_devices_size():
    with pytest.raises(ProjectionError, match="device_threads"):
        philox_normal(SMALLEST_DEVICE_THREADS + 1, 0)
    a, b = (philox_normal(50_000, 7, device_threads=threads) for threads in (2048, 4096))
    assert torch.equal(a[:2048], b[:2048])
    assert not torch.equal(a, b)


@pytest.mark.parametrize(("numel", "offset"), [(-1, 0), (4, 2), (4, -4)])
def test_impossible_draws_are_refused(numel, offset):
    with pytest.raises(ProjectionError, match="multiple of 4"):
        philox_normal(numel, 0, offset)


def test_the_largest_words_give_zero():
    """As float32 they are 2³², and the uniform number 1: its logarithm is 0 on the device."""
    words = np.array([[0xFFFFFFFF, 0x12345678, 0xFFFFFF80, 5]] * 4, dtype=np.uint32)
    assert not _box_muller(words, np.arange(4)).any()
    below = np.array([[0xFFFFFF7F, 0x12345678, 0, 0]], dtype=np.uint32)
    assert 0 < abs(float(_box_muller(below, np.array([0]))[0])) < 1e-3
