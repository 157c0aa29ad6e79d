"""Calibrated codes beside the objective that they are said to lessen, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.quantize.calibrated import DAMPING, calibrated
from exporter.quantize.requantize import block_values, preserve, recompute
from tests.exporter.conftest import delta_of, weight_of

KINDS = [
    {},
    {"double_quant": False},
    {"quant_type": "fp4"},
    {"quant_type": "fp4", "double_quant": False, "blocksize": 128},
]
SHAPES = [(8, 64), (12, 40), (5, 13), (1, 7)]


def moment_of(inputs):
    return inputs.T @ inputs / len(inputs)


def random_inputs(columns, seed=2, tokens=50):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator)
    return torch.randn(tokens, columns, generator=generator) @ mixing


def objective(weight, target, moment):
    """tr((Q − T)(C + λI)(Q − T)ᵀ) in float64, λ a share of C's mean diagonal."""
    metric = moment.double()
    metric = metric + DAMPING * metric.diagonal().mean() * torch.eye(len(metric)).double()
    miss = weight.dequantize().double() - target
    return float((miss @ metric @ miss.T).trace())


@given(
    st.integers(0, 300),
    st.sampled_from(KINDS),
    st.sampled_from(SHAPES),
    st.sampled_from([1e-5, 1e-3, 2e-2]),
)
def test_never_worse_than_the_two_it_starts_from_and_on_the_scales_of_one(seed, kind, shape, size):
    base, delta = weight_of(shape, seed, **kind), delta_of(shape, size, seed)
    moment = moment_of(random_inputs(shape[1], seed))
    target = base.dequantize().double() + delta.left.double() @ delta.right.double()
    found = calibrated(base, delta, moment)
    starts = preserve(base, delta), recompute(base, delta)
    least = min(objective(start, target, moment) for start in starts)
    assert objective(found, target, moment) <= least * (1 + 1e-5)
    after = found.to_tensors("w")

    def is_on_the_scales_of(start):
        before = start.to_tensors("w")
        return before.keys() == after.keys() and all(
            before[name].shape == after[name].shape
            and (name == "w" or torch.equal(before[name], after[name]))
            for name in before
        )

    assert any(map(is_on_the_scales_of, starts))
    # every stored value is one that its block can hold
    places = torch.arange(base.numel) // base.blocksize
    values = block_values(found)[places].gather(1, found.codes().long().unsqueeze(1)).squeeze(1)
    assert torch.equal(found.dequantize().float().reshape(-1), values)


@given(st.integers(0, 50), st.sampled_from(KINDS))
@settings(max_examples=12)
def test_no_code_alone_can_be_bettered(seed, kind):
    """At a descent's end each element is at its best given all others: tried one by one."""
    shape = (3, 10)
    base, delta = weight_of(shape, seed, **kind), delta_of(shape, 5e-3, seed)
    moment = moment_of(random_inputs(shape[1], seed))
    target = base.dequantize().double() + delta.left.double() @ delta.right.double()
    found = calibrated(base, delta, moment)
    least = objective(found, target, moment)
    for place in range(base.numel):
        for code in range(16):
            codes = found.codes().clone()
            codes[place] = code
            other = objective(base.with_codes(codes), target, moment)
            assert other >= least * (1 - 1e-5)


def test_a_module_that_sees_nothing_gets_the_nearest_codes():
    base, delta = weight_of((8, 64)), delta_of((8, 64), 2e-2)
    found = calibrated(base, delta, torch.zeros(64, 64))
    assert torch.equal(found.codes(), preserve(base, delta).codes())
    assert not torch.equal(found.codes(), base.codes())


@pytest.mark.parametrize("kind", KINDS[:3])
def test_on_inputs_of_low_rank_it_beats_preserve_on_others_too(kind):
    """A delta far below a step: preserve loses nearly all of it, calibrated codes half or less."""
    shape = (48, 120)
    generator = torch.Generator().manual_seed(5)
    mixing = torch.randn(6, shape[1], generator=generator)

    def draw(tokens):
        noise = torch.randn(tokens, shape[1], generator=generator) * 0.05
        return torch.randn(tokens, 6, generator=generator) @ mixing + noise

    base, delta = weight_of(shape, **kind), delta_of(shape, 3e-4)
    codes = calibrated(base, delta, moment_of(draw(2000)))
    held_out = draw(500).double()
    wanted = held_out @ (delta.left.double() @ delta.right.double()).T

    def miss(weight):
        change = weight.dequantize().double() - base.dequantize().double()
        return float((held_out @ change.T - wanted).norm() / wanted.norm())

    assert miss(preserve(base, delta)) > 0.9
    assert miss(codes) < 0.6
