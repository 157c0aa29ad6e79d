"""P against a second derivation."""

import math

import pytest
import torch

from tests.tinylora.plain_projections import projection
from tinylora import draw_projections
from tinylora.errors import ProjectionError

NAMES = [f"model.layers.{i // 7}.{i % 7}" for i in range(252)]


@pytest.mark.parametrize("seed", [42, 20260306])
@pytest.mark.parametrize("formula", ["full", "diagonal"])
def test_values_are_those_of_the_second_derivation(formula, seed):
    drawn = draw_projections(NAMES, 32, 2, seed, formula=formula, rng="cuda")
    assert drawn.dtype == torch.bfloat16
    assert drawn.shape == ((252, 32, 2, 2) if formula == "full" else (252, 32, 2))
    for module in (0, 1, 251):
        numel, scale = drawn[module].numel(), 1.0 if formula == "full" else math.sqrt(2)
        bits = drawn[module].view(torch.uint16).flatten().tolist()
        assert bits == projection(seed, module, numel, scale)


def test_the_cpu_stream_is_torchs_own_and_leaves_it_alone():
    before = torch.get_rng_state()
    drawn = draw_projections(NAMES[:3], 16, 4, 42, formula="full", rng="cpu")
    assert torch.equal(before, torch.get_rng_state())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(42)
        expected = [torch.randn(16, 4, 4, dtype=torch.bfloat16) for _ in range(3)]
    assert torch.equal(drawn, torch.stack(expected))


@pytest.mark.parametrize("rank", [2, 3])
def test_unscaled_projections_are_those_before_the_division(rank):
    scaled, unscaled = (
        draw_projections(["a", "b"], 16, rank, 42, formula=formula, rng="cuda")
        for formula in ("diagonal", "diagonal-unscaled")
    )
    assert unscaled.shape == (2, 16, rank)
    assert torch.equal(scaled, (unscaled.float() / rank**0.5).to(torch.bfloat16))


@pytest.mark.parametrize(
    ("u", "rank", "rng", "words"),
    [
        (1 << 16, 32, "cpu", "of 252 modules has 16911433728 numbers"),
        (4096, 2, "cuda", "16384 numbers; above 15360 .*rng=cpu"),
    ],
)
def test_projections_that_cannot_be_drawn_are_refused_before_memory_is_asked_for(
    u, rank, rng, words
):
    with pytest.raises(ProjectionError, match=words):
        draw_projections(NAMES, u, rank, 42, formula="full", rng=rng)
