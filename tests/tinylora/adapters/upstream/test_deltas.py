"""ΔW of both formulas against dense float64 references written from the formulas."""

import numpy as np
import pytest
import torch

from tinylora import AdapterDeltas, Artifact, DeltaOptions, exact_factors
from tinylora.adapters.upstream.resolve import doubts, resolve_options
from tinylora.errors import OptionsError, ProjectionError, TargetMismatchError


def artifact(u=32, rank=2, size=1e-2, seed=42, **changes):
    generator = torch.Generator().manual_seed(7)
    fields = {
        "path": "v.pt",
        "global_v": (torch.randn(u, generator=generator) * size).to(torch.bfloat16),
        "u": u,
        "rank": rank,
        "seed": seed,
        "model_id": "m",
        "total_replaced_layers": 3,
        "is_quantized": None,
        "saved_device": "cuda:0",
        "sha256": "",
        "formula": None if "is_quantized" in changes else "full",
    }
    return Artifact(**{**fields, **changes})


def weight(shape=(48, 80), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 0.02).to(torch.bfloat16)


def reference(art, projection, factors, formula):
    """U diag(S) R Vh in float64, one product after the other, from bf16 inputs."""
    U, S, Vh, P, v = (
        t.to(torch.bfloat16).double().numpy()
        for t in (factors.U, factors.S, factors.Vh, projection, art.global_v)
    )
    if formula == "full":
        R = sum(v[i] * P[i] for i in range(art.u))
        return U @ np.diag(S) @ R @ Vh
    return U @ np.diag(S * (v @ P)) @ Vh


@pytest.mark.parametrize("formula", ["full", "diagonal"])
@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("size", [1e-5, 1e-2, 3.0])
def test_low_rank_delta_against_float64(formula, rank, size):
    art = artifact(rank=rank, size=size)
    deltas = AdapterDeltas(art, ["a", "b", "c"], DeltaOptions(formula=formula, svd="exact"))
    W = weight()
    delta = deltas.delta("b", W)
    assert torch.equal(delta.dense(), delta.left @ delta.right)
    expected = reference(art, deltas.projections[1], exact_factors(W.float(), rank), formula)
    error = np.linalg.norm(delta.dense().double().numpy() - expected)
    assert error <= 1e-6 * np.linalg.norm(expected)
    assert (delta.left.dtype, delta.right.dtype) == (torch.float32, torch.float32)
    assert (delta.left.shape, delta.right.shape) == ((48, rank), (rank, 80))


@pytest.mark.parametrize("formula", ["full", "diagonal"])
def test_trainer_numerics_are_the_trainers_bf16_products(formula):
    art = artifact()
    deltas = AdapterDeltas(art, ["a"], DeltaOptions(formula=formula, numerics="trainer"))
    W = weight((96, 64))
    factors = deltas.module("a", lambda: W).factors
    U, S, Vh, P = (
        t.to(torch.bfloat16) for t in (factors.U, factors.S, factors.Vh, deltas.projections[0])
    )
    v = art.global_v
    if formula == "full":
        expected = U @ torch.diag(S) @ torch.einsum("u,uij->ij", v, P) @ Vh
    else:
        expected = U @ torch.diag(S * (v @ P)) @ Vh
    ours = deltas.delta("a", W).dense()
    assert torch.equal(ours, ours.to(torch.bfloat16).float())
    # one bf16 unit apart at the most: the order of sums inside a product is the library's
    assert (ours - expected.float()).abs().max() <= 2**-8 * expected.float().abs().max()
    exact = reference(art, P, factors, formula)
    gap = np.linalg.norm(ours.double().numpy() - exact) / np.linalg.norm(exact)
    assert 2**-12 < gap < 2**-6


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({}, {}, ("full", "cuda", "exact")),
        ({"is_quantized": True}, {}, ("diagonal", "cuda", "fast")),
        ({"is_quantized": False, "saved_device": "cpu"}, {}, ("diagonal", "cpu", "fast")),
        ({"is_quantized": True}, {"formula": "full"}, ("full", "cuda", "exact")),
        ({}, {"rng": "cpu", "svd": "fast"}, ("full", "cpu", "fast")),
        ({"formula": None}, {"formula": "diagonal"}, ("diagonal", "cuda", "fast")),
        ({"saved_device": "mps"}, {"rng": "cuda"}, ("full", "cuda", "exact")),
        ({"formula": "diagonal-unscaled"}, {}, ("diagonal-unscaled", "cuda", "fast")),
        ({"saved_device": "cpu"}, {"placement": {"": 1}}, ("full", "cuda", "exact")),
        ({}, {"placement": {"": "cpu"}}, ("full", "cpu", "exact")),
    ],
)
def test_auto_follows_the_file(changes, options, expected):
    resolved = resolve_options(artifact(**changes), DeltaOptions(**options))
    assert (resolved.formula, resolved.rng, resolved.svd) == expected
    wanted = "16bit" if changes.get("is_quantized") is False else "4bit"
    assert resolved.trained_on == wanted


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({}, {}, []),
        ({"is_quantized": True}, {"svd": "fast"}, []),  # of no consequence: signs do not matter
        ({"saved_device": "mps"}, {"rng": "cuda"}, []),  # the file says nothing against it
        ({}, {"svd": "fast"}, ["relative signs"]),
        ({}, {"rng": "cpu"}, ["saved from cuda:0"]),
        ({"is_quantized": True}, {"formula": "full"}, ["says diagonal"]),
        ({"formula": None}, {"formula": "diagonal"}, []),  # nothing speaks against it
        ({"is_quantized": False}, {"trained_on": "4bit"}, ["is_quantized = False"]),
        ({}, {"rng": "cpu", "svd": "fast", "formula": "diagonal"}, ["saved from", "says full"]),
    ],
)
def test_doubts_about_options(changes, options, words):
    art = artifact(**changes)
    found = list(doubts(art, resolve_options(art, DeltaOptions(**options))))
    assert len(found) == len(words)
    assert all(word in doubt for word, doubt in zip(words, found, strict=True))


def test_what_nothing_tells_must_be_given():
    """Two of upstream's published files were built as another model, without a word."""
    with pytest.raises(OptionsError, match="diagonal-unscaled.*randn"):
        resolve_options(artifact(formula=None), DeltaOptions())
    with pytest.raises(ProjectionError, match="mps"):
        resolve_options(artifact(saved_device="mps"), DeltaOptions())
    with pytest.raises(TargetMismatchError, match="'z'"):
        AdapterDeltas(artifact(), ["a"]).delta("z", weight())
