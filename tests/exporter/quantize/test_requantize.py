"""Nearest codes under a base's scales, and new scales as bitsandbytes chooses them."""

from dataclasses import replace

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exporter.quantize.requantize import block_values, preserve, recompute
from tests.exporter.conftest import delta_of, weight_of
from tinylora import LowRankDelta, QuantizedWeight


@pytest.mark.parametrize("way", [-1, 1])
def test_a_tie_stays(way):
    """bf16 values have room in float32: value + half a step is the midpoint, exactly."""
    weight = weight_of((1, 64), double_quant=False)
    values, codes = block_values(weight)[0], weight.codes().long()
    place = int(((codes > 0) & (codes < 15)).nonzero()[0])
    right = torch.zeros(1, 64)
    right[0, place] = (values[codes[place] + way] - values[codes[place]]) / 2
    assert preserve(weight, LowRankDelta(torch.ones(1, 1), right)) is weight
    right[0, place] *= 1 + 1e-3
    assert preserve(weight, LowRankDelta(torch.ones(1, 1), right)).codes()[place] == (
        codes[place] + way
    )


@pytest.mark.parametrize("kind", [{}, {"double_quant": False}, {"quant_type": "fp4"}])
def test_recompute_is_bitsandbytes_on_the_sum(kind):
    weight, delta = weight_of((16, 96), **kind), delta_of((16, 96), 1e-3)
    merged = recompute(weight, delta)
    total = weight.dequantize().float() + delta.dense()
    packed, state = quantize_4bit(
        total,
        compress_statistics=kind.get("double_quant", True),
        quant_type=kind.get("quant_type", "nf4"),
    )
    assert torch.equal(merged.data, packed)
    assert torch.equal(merged.absmax, state.absmax)
    assert merged.dtype == weight.dtype == torch.bfloat16
    assert QuantizedWeight.from_tensors("w", merged.to_tensors("w")).dtype == torch.bfloat16


DTYPES = [torch.bfloat16, torch.float16, torch.float32]
# rows of whole blocks, of half blocks, of two elements, and of odd length
SHAPES = [(8, 64), (3, 256), (70, 192), (66, 96), (130, 34), (100, 17), (5, 13), (1, 7), (1, 64)]


@st.composite
def weights(draw, shape=None):
    """4-bit weights of all kinds: blocks of any size side by side, zero, negative, merged."""
    shape = shape or draw(st.sampled_from(SHAPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    fall = draw(st.sampled_from([0.0, 3.0, 7.0]))  # fp16 runs out of digits below 1e-5
    size = 0.02 * 10 ** (-fall * torch.rand(shape[0], 1, generator=generator))
    values = torch.randn(shape, generator=generator) * size
    values[draw(st.integers(0, shape[0] - 1))] *= draw(st.integers(0, 1))
    nested = draw(st.booleans())
    weight = QuantizedWeight.quantize(
        values.to(draw(st.sampled_from(DTYPES))),
        quant_type=draw(st.sampled_from(["nf4", "fp4"])),
        blocksize=draw(st.sampled_from([32, 64, 128])),
        double_quant=nested,
    )
    kind = draw(st.sampled_from(["plain"] * 6 + ["negative", "turned", "merged", "shuffled"]))
    if kind == "negative" and not nested:
        return replace(weight, absmax=-weight.absmax)
    if kind in ("negative", "turned") and nested:  # the least byte is no longer the least scale
        if kind == "negative":
            return replace(weight, nested_absmax=-weight.nested_absmax)
        return replace(weight, nested_code=weight.nested_code.flip(0))
    if kind == "merged":  # five codes of one value, two that differ by less than bf16 holds
        code = weight.code.clone()
        code[2:6], code[9] = code[7], code[8] * (1 + 1e-4)
        return replace(weight, code=code)
    if kind == "shuffled":
        return replace(weight, code=weight.code[torch.randperm(16, generator=generator)])
    return weight


@st.composite
def deltas(draw, shape):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    size, rank = 10.0 ** -draw(st.floats(1, 8)), draw(st.integers(1, 4))
    left = torch.randn(shape[0], rank, generator=generator) * size
    right = torch.randn(rank, shape[1], generator=generator)
    return LowRankDelta(left, right, draw(st.sampled_from([None, torch.bfloat16])))


def check_against_search(found, weight, delta):
    expected = reference_codes(weight, delta)
    assert torch.equal(found.codes(), expected)
    assert (found is weight) == torch.equal(expected, weight.codes())
    assert found.data.shape == weight.data.shape and found.state == weight.state


def reference_codes(weight, delta):
    """Every block sorted and searched, nothing bounded or left out; ties stay."""
    size = weight.blocksize
    values = weight.block_absmax.unsqueeze(1) * weight.code
    values = values.to(weight.dtype).float()
    codes, change = (
        nn.functional.pad(flat, (0, -flat.numel() % size)).view(-1, size)
        for flat in (weight.codes(), delta.dense().reshape(-1))
    )
    ordered, order = values.sort(dim=1, stable=True)
    midpoints = (ordered[:, :-1] + ordered[:, 1:]) / 2
    held = values.gather(1, codes.long())
    wanted = held + change
    found = order.gather(1, torch.searchsorted(midpoints, wanted))
    nearer = (wanted - values.gather(1, found)).abs() < (wanted - held).abs()
    return torch.where(nearer, found.to(torch.uint8), codes).view(-1)[: weight.numel]


@settings(max_examples=120)
@given(data=st.data())
def test_codes_of_any_weight_are_those_of_a_plain_search(data):
    weight = data.draw(weights())
    delta = data.draw(deltas(weight.shape))
    check_against_search(preserve(weight, delta), weight, delta)


@pytest.mark.parametrize(("shape", "size"), [((3000, 128), 1e-3), ((300, 4097), 3e-3)])
def test_codes_of_a_weight_of_many_pieces_are_those_of_a_plain_search(shape, size):
    weight, delta = weight_of(shape), delta_of(shape, size)
    check_against_search(preserve(weight, delta), weight, delta)
