"""P against golden values of a second derivation, and the streams of split models."""

import json
from pathlib import Path

import pytest
import torch

from tinylora import draw_projections
from tinylora.errors import ProjectionError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden_projections.json").read_text())
NAMES = [f"model.layers.{i // 7}.{i % 7}" for i in range(252)]


def bits(tensor):
    return "".join(f"{b & 0xFFFF:04x}" for b in tensor.reshape(-1).view(torch.int16).tolist())


@pytest.mark.parametrize("seed", [42, 20260306])
@pytest.mark.parametrize("formula", ["full", "diagonal"])
def test_golden_values(formula, seed):
    drawn = draw_projections(NAMES, 32, 2, seed, formula=formula, rng="cuda")
    assert drawn.dtype == torch.bfloat16
    assert drawn.shape == ((252, 32, 2, 2) if formula == "full" else (252, 32, 2))
    for module in (0, 1, 251):
        assert bits(drawn[module]) == GOLDEN[f"{formula} seed={seed} module={module}"]


def test_the_cpu_stream_is_torchs_own():
    drawn = draw_projections(NAMES[:3], 16, 4, 42, formula="full", rng="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(42)
        expected = [torch.randn(16, 4, 4, dtype=torch.bfloat16) for _ in range(3)]
    assert torch.equal(drawn, torch.stack(expected))


def test_streams_of_cuda_and_cpu_differ():
    cuda, cpu = (
        draw_projections(NAMES[:1], 32, 2, 42, formula="full", rng=rng) for rng in ("cuda", "cpu")
    )
    assert not torch.equal(cuda, cpu)


def test_drawing_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    draw_projections(NAMES[:2], 8, 2, 1, formula="full", rng="cpu")
    assert torch.equal(before, torch.get_rng_state())


def test_each_device_of_a_split_model_has_its_own_stream():
    names = ["model.layers.0.q", "model.layers.1.q", "model.layers.2.q", "model.layers.10.q"]
    placement = {"model.layers.0": "cuda:0", "model.layers.1": "cuda:1", "": "cuda:0"}
    split = draw_projections(names, 8, 2, 5, formula="full", rng="cuda", placement=placement)
    whole = draw_projections(names, 8, 2, 5, formula="full", rng="cuda")
    assert torch.equal(split[0], whole[0])
    assert torch.equal(split[1], whole[0])  # first draw on cuda:1
    assert torch.equal(split[2], whole[1])  # second draw on cuda:0
    assert torch.equal(split[3], whole[2])  # layers.10 is not below layers.1


def test_a_module_without_a_device_is_refused():
    with pytest.raises(ProjectionError, match=r"layers\.1\.q"):
        draw_projections(
            ["layers.0.q", "layers.1.q"],
            8,
            2,
            5,
            formula="full",
            rng="cuda",
            placement={"layers.0": "cuda:0"},
        )


@pytest.mark.parametrize(
    ("u", "rank", "rng", "words"),
    [
        (
            1 << 16,
            32,
            "cpu",
            "of 252 modules has 16911433728 numbers, expected at most 268435456",
        ),
        (4096, 2, "cuda", "16384 numbers; above 15360 .* an artifact does not tell.*rng=cpu"),
    ],
)
def test_projections_that_cannot_be_drawn_are_refused_before_memory_is_asked_for(
    u, rank, rng, words
):
    with pytest.raises(ProjectionError, match=words):
        draw_projections(NAMES, u, rank, 42, formula="full", rng=rng)


def test_dividing_and_multiplying_by_the_reciprocal_round_alike():
    """CUDA divides by a scalar as a product with its reciprocal; in bf16 both give the same."""
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    values = every.view(torch.bfloat16)
    values = values[values.isfinite()]
    for rank in range(1, 65):
        root = torch.tensor(rank**0.5, dtype=torch.float32)
        product = (values.float() * (1 / root)).to(torch.bfloat16)
        assert torch.equal(product, values / rank**0.5)
