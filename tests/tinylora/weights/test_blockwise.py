"""Piecewise quantization gives bitsandbytes' bits; dequantization, those of the formula."""

import pytest
import torch
from bitsandbytes.functional import create_dynamic_map, get_4bit_type, quantize_blockwise
from hypothesis import given
from hypothesis import strategies as st

from tests.tinylora.conftest import as_bitsandbytes
from tinylora import QuantizedWeight
from tinylora.weights import blockwise
from tinylora.weights.code_books import code_book, dynamic_code_book

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def test_the_code_books_are_those_of_bitsandbytes():
    for quant_type in ("nf4", "fp4"):
        assert torch.equal(code_book(quant_type), get_4bit_type(quant_type, device="cpu"))
    assert torch.equal(dynamic_code_book(), create_dynamic_map())


def same_scales(scales):
    assert blockwise._is_compared()
    codes, absmax, code = blockwise.quantize_scales(scales)
    theirs, state = quantize_blockwise(scales, blocksize=256)
    assert codes.dtype == theirs.dtype and torch.equal(codes, theirs)
    assert torch.equal(absmax, state.absmax) and torch.equal(code, state.code)


@given(
    seed=st.integers(0, 2**32),
    exponent=st.integers(-37, 37),
    zeros=st.floats(0, 1),
    size=st.integers(1, 3000),
)
def test_scales_have_the_same_codes(seed, exponent, zeros, size):
    generator = torch.Generator().manual_seed(seed)
    scales = torch.randn(size, generator=generator) * 10 ** (
        -3 * torch.rand(size, generator=generator)
    )
    scales *= torch.rand(size, generator=generator) >= zeros
    same_scales((scales.double() * 10.0**exponent).float())


def test_scales_at_and_beside_every_edge_have_the_same_codes():
    book = dynamic_code_book()
    steps = torch.arange(65536) / 32767.5 - 1
    near = [(book[:-1] + book[1:]) / 2, book, (steps[:-1] + steps[1:]) / 2]
    for toward in (-2.0, 2.0):
        near += [torch.nextafter(values, torch.tensor(toward)) for values in near[:3]]
    values = torch.cat(near)
    values = torch.nn.functional.pad(values, (0, -values.numel() % 255)).view(-1, 255)
    for size in (1.0, 0.0123, 3e-7, 55.5):
        blocks = torch.cat([torch.ones(len(values), 1), values], dim=1) * size
        same_scales(blocks.reshape(-1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(600, 1024), (3, 5), (1, 1), (513, 1023), (7, 64)])
@pytest.mark.parametrize("blocksize", [32, 64, 4096])
def test_same_bits_as_bitsandbytes(dtype, shape, blocksize):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.02
    as_bitsandbytes(weight.to(dtype), blocksize=blocksize)


@given(
    seed=st.integers(0, 2**32),
    exponent=st.integers(-44, 38),
    zeros=st.floats(0, 1),
    size=st.integers(1, 700),
)
def test_same_bits_for_any_size_of_numbers(seed, exponent, zeros, size):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(size, generator=generator) * 3
    weight = torch.randn(size, generator=generator).clamp(-3, 3) * 10**-spread
    weight *= torch.rand(size, generator=generator) >= zeros
    weight = (weight.double() * 10.0**exponent).float()
    as_bitsandbytes(weight.view(1, -1), double_quant=False)


def test_every_bf16_value_under_every_bf16_scale_of_a_binade():
    """All 128 significands of the absmax against all 128 of a value, in 8 binades below it."""
    steps = 1 + torch.arange(128) / 128
    values = torch.cat([s * steps * 2.0**-k for k in range(8) for s in (1, -1)])  # 2048 of them
    weight = torch.cat([torch.full((128, 1), 0.0), values.expand(128, -1)], dim=1)
    weight = weight.minimum(steps.view(-1, 1)).maximum(-steps.view(-1, 1))
    weight = torch.nn.functional.pad(weight, (0, 4096 - weight.shape[1]))
    weight[:, -1] = steps
    as_bitsandbytes(weight.to(torch.bfloat16), blocksize=4096, double_quant=False)


@pytest.mark.parametrize("part", [0.001, 0.9])
def test_few_or_nearly_all_numbers_beside_rounding_edges(part):
    generator = torch.Generator().manual_seed(6)
    code = code_book("nf4")
    edges = (code[:-1] + code[1:]) / 2
    chosen = torch.randint(15, (4096, 64), generator=generator)
    beside = edges[chosen] + torch.randint(-3, 4, (4096, 64), generator=generator) * 2**-26
    weight = torch.rand((4096, 64), generator=generator) * 2 - 1
    there = torch.rand((4096, 64), generator=generator) < part
    weight = torch.where(there, beside, weight)
    weight[:, 0] = 1
    as_bitsandbytes(weight)


def test_an_unknown_release_of_bitsandbytes_does_the_work_itself(monkeypatch):
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(blockwise, "version", lambda package: "9.9")
    monkeypatch.setattr(blockwise, "_table", None)
    as_bitsandbytes(weight)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(600, 1024), (3, 5), (513, 1023)])
@pytest.mark.parametrize("double_quant", [True, False])
def test_dequantization_is_code_book_times_absmax(dtype, shape, double_quant):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(4)).to(torch.bfloat16)
    quantized = QuantizedWeight.quantize(weight, double_quant=double_quant)
    scales = quantized.block_absmax.repeat_interleave(64)[: weight.numel()]
    plain = (quantized.code[quantized.codes().long()] * scales).view(shape)
    assert torch.equal(quantized.dequantize(dtype), plain.to(dtype))
