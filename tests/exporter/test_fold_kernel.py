"""The batched fold: the same codes as the plain way, in little memory, forming what it must."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.quantize import moves
from exporter.quantize.reach import block_scales, gaps_of, least_steps, strip_size
from exporter.quantize.requantize import preserve, preserve_batch
from tests.exporter.preserve_reference import reference_codes
from tests.live_memory import peak_bytes
from tinylora import LowRankDelta, QuantizedWeight
from tinylora.workers import single_threaded

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
        stats = weight.nested
        changes = {"absmax": -stats.absmax} if kind == "negative" else {"code": stats.code.flip(0)}
        return replace(weight, nested=replace(stats, **changes))
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


def same_as_the_plain_way(found, weight, delta):
    expected = reference_codes(weight, delta)
    assert torch.equal(found.codes(), expected)
    assert (found is weight) == torch.equal(expected, weight.codes())
    assert found.data.shape == weight.data.shape and found.state == weight.state


@settings(max_examples=120)
@given(data=st.data())
def test_codes_are_those_of_the_plain_way(data):
    weight = data.draw(weights())
    delta = data.draw(deltas(weight.shape))
    same_as_the_plain_way(preserve(weight, delta), weight, delta)


@settings(max_examples=20)
@given(data=st.data())
def test_a_batch_gives_what_single_calls_give(data):
    bases = [data.draw(weights(shape)) for shape in [(8, 64), (66, 96), (8, 64), (8, 64), (5, 13)]]
    changes = [data.draw(deltas(base.shape)) for base in bases]
    for found, base, delta in zip(preserve_batch(bases, changes), bases, changes, strict=True):
        same_as_the_plain_way(found, base, delta)


def test_a_batch_of_different_lengths_is_refused():
    weight = QuantizedWeight.quantize(torch.randn(8, 64))
    with pytest.raises(ValueError):
        preserve_batch([weight, weight], [LowRankDelta(torch.ones(8, 1), torch.ones(1, 64))])


def test_pieces_and_groups_do_not_show(monkeypatch):
    """Many pieces of one weight, many groups of one layout: the same codes."""
    generator = torch.Generator().manual_seed(0)
    base = QuantizedWeight.quantize((torch.randn(700, 128, generator=generator) * 0.02).bfloat16())
    delta = LowRankDelta(
        torch.randn(700, 2, generator=generator) * 1e-3, torch.randn(2, 128, generator=generator)
    )
    monkeypatch.setattr(moves, "PIECE", 10_000)
    monkeypatch.setattr("exporter.quantize.requantize._STRIPS_AT_ONCE", 3000)
    for found in preserve_batch([base] * 5, [delta] * 5):
        same_as_the_plain_way(found, base, delta)


class Watched(LowRankDelta):
    """Says which rows of it are formed."""

    formed: list[list[int]]

    def _rows(self, part):
        self.formed.append(part.tolist() if isinstance(part, torch.Tensor) else [part])
        return super()._rows(part)


def watched(left, right):
    delta = Watched(left, right)
    object.__setattr__(delta, "formed", [])
    return delta


def test_nothing_is_formed_that_no_code_can_need():
    generator = torch.Generator().manual_seed(0)
    base = QuantizedWeight.quantize((torch.randn(300, 128, generator=generator) * 0.02).bfloat16())
    right = torch.randn(2, 128, generator=generator)
    nothing = watched(torch.full((300, 2), 1e-9), right)
    assert preserve(base, nothing) is base and not nothing.formed
    # above what the whole weight's bound excludes; only three rows can be reached
    left = torch.full((300, 2), 1e-9)
    left[[17, 18, 250]] = 0.02
    some = watched(left, right)
    found = preserve(base, some)
    assert [set(rows) - {0} for rows in some.formed] == [{17, 18, 250}]
    moved = (found.codes() != base.codes()).view(300, 128).any(dim=1)
    assert moved.nonzero().squeeze(1).tolist() == [17, 18, 250]


@pytest.mark.parametrize("shape", [(64, 64), (700, 100), (2048, 256)])
@pytest.mark.parametrize("rank", [1, 2, 3, 8])
def test_rows_of_a_delta_are_those_of_its_dense_form(shape, rank):
    generator = torch.Generator().manual_seed(rank)
    delta = LowRankDelta(
        torch.randn(shape[0], rank, generator=generator),
        torch.randn(rank, shape[1], generator=generator),
    )
    for count in (1, 5, 63, shape[0] // 3):
        index = torch.randperm(shape[0], generator=generator)[:count].sort().values
        with single_threaded():  # BLAS rounds otherwise on other numbers of threads
            assert torch.equal(delta.rows(index), delta.dense()[index])


@pytest.mark.parametrize("size", [1e-6, 3e-4, 1e-2])
def test_the_workspace_is_bounded(size, monkeypatch):
    """56 bytes an element of a piece, 16 a strip, the factors twice, and the result's bytes."""
    monkeypatch.setattr(moves, "PIECE", 1 << 14)
    generator = torch.Generator().manual_seed(0)
    right = torch.randn(2, 256, generator=generator)
    for rows in (1024, 4096):
        left = torch.randn(rows, 2, generator=generator) * size
        values = torch.randn(rows, 256, generator=generator) * 0.02
        base = QuantizedWeight.quantize(values.bfloat16())
        delta = LowRankDelta(left, right)
        strips, result = base.numel // 64, base.numel // 2
        limit = 56 * moves.PIECE + 16 * strips + 4 * 2 * 2 * (rows + 256) + result + 50_000
        assert 4 * strips < peak_bytes(partial(preserve, base, delta)) < limit


@given(data=st.data())
def test_bounds_are_below_what_they_bound(data):
    pair = [data.draw(weights((8, 64))) for _ in range(2)]
    kinds = [(w.nested is None, w.blocksize, w.dtype, w.quant_type) for w in pair]
    pair = [w for w, kind in zip(pair, kinds, strict=True) if kind == kinds[0]]
    scales, least = block_scales(pair), least_steps(pair)
    gaps = gaps_of(torch.stack([w.code for w in pair]), pair[0].dtype)
    for i, weight in enumerate(pair):
        assert torch.equal(scales[i], weight.block_absmax())
        held = (scales[i].unsqueeze(1) * weight.code).to(weight.dtype).double()
        apart = (held.unsqueeze(2) - held.unsqueeze(1)).abs()
        apart = apart.masked_fill(apart == 0, torch.inf).amin(dim=2)
        assert float(apart.min()) >= float(least[i])
        # values that rounding merges are no nearer than the bound says, as it says nothing of them
        lowest = scales[i].abs().double().unsqueeze(1) * gaps.of_code[i].double() - gaps.floor
        assert bool((apart >= lowest.clamp_min(0)).all())
        assert float(gaps.least[i]) == float(gaps.of_code[i].min())


def test_nothing_is_bounded_by_statistics_that_bitsandbytes_does_not_write():
    generator = torch.Generator().manual_seed(0)
    plain = QuantizedWeight.quantize((torch.randn(64, 256, generator=generator) * 0.02).bfloat16())
    stats = plain.nested
    turned = replace(plain, nested=replace(stats, absmax=-stats.absmax))
    other = replace(plain, nested=replace(stats, code=stats.code.flip(0)))
    shuffled = replace(plain, code=plain.code.flip(0))
    found = least_steps([plain, turned, other, shuffled])
    assert float(found[0]) > 0 and bool((found[1:] == -torch.inf).all())
    scales = block_scales([plain, turned, other])  # each with its own statistics
    for weight, own in zip([plain, turned, other], scales, strict=True):
        assert torch.equal(own, weight.block_absmax())


def test_a_strip_lies_in_one_row_and_one_block():
    sizes = [
        strip_size(QuantizedWeight.quantize(torch.randn(2, columns), blocksize=128))
        for columns in (256, 896 // 2, 96, 34, 13)
    ]
    assert sizes == [128, 64, 32, 2, 1]


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_checkpoints_need_no_search(quant_type, dtype, monkeypatch):
    def refuse(*_):
        raise AssertionError("searched")

    monkeypatch.setattr(moves, "_by_search", refuse)
    generator = torch.Generator().manual_seed(0)
    values = (torch.randn(70, 128, generator=generator) * 0.02).to(dtype)
    base = QuantizedWeight.quantize(values, quant_type=quant_type)
    delta = LowRankDelta(torch.randn(70, 1, generator=generator) * 1e-2, torch.ones(1, 128))
    assert preserve(base, delta) is not base
    with pytest.raises(AssertionError, match="searched"):
        preserve(replace(base, code=base.code * -1e-20), delta)
