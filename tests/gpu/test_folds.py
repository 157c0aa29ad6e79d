"""The fold on the device: the CPU's codes, in bounded memory."""

import pytest
import torch

from benchmarks.random_base import delta_of_size, trained_like
from exporter.quantize.requantize import preserve
from tinylora import LowRankDelta, QuantizedWeight

SHAPES = [(256, 512), (70, 192), (256, 512), (66, 96), (5, 13), (256, 512)]
SIZES = [1e-7, 4e-4, 1e-2]
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
CUDA = torch.device("cuda")


def weight(shape, seed, dtype=torch.bfloat16, quant_type="nf4", blocksize=64, nested=True):
    values = trained_like(shape, seed).to(dtype)
    return QuantizedWeight.quantize(
        values, quant_type=quant_type, blocksize=blocksize, double_quant=nested
    )


def grid_delta(shape, size, rounding=None):
    """Factors of eight bits: products and sums are exact in float32, in any order."""
    generator = torch.Generator().manual_seed(3)
    left, right = (
        torch.randint(-127, 128, s, generator=generator).float()
        for s in [(shape[0], 2), (2, shape[1])]
    )
    scale = 2.0 ** torch.tensor(size / 8000).log2().round().item()
    return LowRankDelta(left * scale, right, rounding)


@pytest.fixture(autouse=True)
def needs_bitsandbytes():
    pytest.importorskip("bitsandbytes")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize(("blocksize", "nested"), [(64, True), (128, False)])
def test_folds_are_the_cpus(size, dtype, quant_type, blocksize, nested):
    bases = [
        weight(shape, seed, dtype, quant_type, blocksize, nested)
        for seed, shape in enumerate(SHAPES)
    ]
    deltas = [grid_delta(shape, size, torch.bfloat16 if i % 2 else None)
              for i, shape in enumerate(SHAPES)]  # fmt: skip
    for base, delta in zip(bases, deltas, strict=True):
        there = base.to(CUDA)
        expected, found = preserve(base, delta), preserve(there, delta.to(CUDA))
        assert found.data.is_cuda
        assert (found is there) == (expected is base)
        assert torch.equal(found.data.cpu(), expected.data)


@pytest.mark.parametrize("size", [4e-4, 1e-2])
def test_other_folds_differ_only_where_the_product_was_rounded_otherwise(size, record_property):
    shape = (512, 768)
    base, delta = weight(shape, 0), delta_of_size(shape, size)
    device_delta = delta.to(CUDA)
    host = preserve(base, delta).codes()
    device = preserve(base.to(CUDA), device_delta).codes().cpu()
    differs = host != device
    rounded = (delta.dense() != device_delta.dense().cpu()).view(-1)
    record_property("products that differ", int(rounded.sum()))
    record_property("codes that differ", int(differs.sum()))
    assert not bool((differs & ~rounded).any())
    assert int(differs.sum()) <= 2


def test_many_moving_codes_take_bounded_memory():
    """96 bytes an element of a piece, and the result."""
    shape = (11008, 2048)
    base = QuantizedWeight.quantize(trained_like(shape, device="cuda"))
    delta = delta_of_size(shape, 1e-2, "cuda")
    preserve(base, delta)  # the libraries' own workspaces are made once
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = preserve(base, delta)
    torch.cuda.synchronize()
    assert found is not base
    assert torch.cuda.max_memory_allocated() - before < 96 * (1 << 24) + base.data.nbytes
