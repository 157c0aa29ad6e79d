"""Factors against numpy's float64 SVD, and the store that keeps them."""

import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tinylora import FactorStore, QuantizedWeight, exact_factors, fast_factors
from tinylora.errors import FactorizationError
from tinylora.svd.factor_store import factors_of
from tinylora.svd.factors import weight_digest


def matrix(shape, seed=0, spikes=(3.0, 2.0, 1.2, 0.7)):
    """A noisy matrix with a few leading directions, as trained weights have."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal(shape) * 0.02
    left = np.linalg.qr(generator.standard_normal((shape[0], len(spikes))))[0]
    right = np.linalg.qr(generator.standard_normal((shape[1], len(spikes))))[0]
    return torch.from_numpy(noise + left * spikes @ right.T).float()


def assert_same(one, other):
    assert all(
        torch.equal(getattr(one, n), getattr(other, n)) for n in ("U", "S", "Vh", "spectrum")
    )
    assert (one.method, one.lapack) == (other.method, other.lapack)


@pytest.mark.parametrize("shape", [(96, 96), (160, 64), (64, 200), (3, 5)])
@pytest.mark.parametrize("method", [exact_factors, fast_factors])
def test_against_float64(shape, method):
    rank = 2
    W = matrix(shape, spikes=(3.0, 2.0, 1.2))
    factors = method(W, rank)
    U, S, Vh = np.linalg.svd(W.double().numpy(), full_matrices=False)
    assert np.allclose(factors.S.numpy(), S[:rank], rtol=2e-6)
    assert factors.spectrum.numel() == min(rank + 8, min(shape))
    assert np.allclose(factors.spectrum[: rank + 1], S[: rank + 1], rtol=1e-4)
    for k in range(rank):
        sign = np.sign(Vh[k] @ factors.Vh[k].double().numpy())
        assert np.abs(factors.Vh[k].numpy() * sign - Vh[k]).max() < 2e-6
        assert np.abs(factors.U[:, k].numpy() * sign - U[:, k]).max() < 2e-6


@pytest.mark.parametrize("shape", [(300, 260), (200, 400)])
def test_fast_path_on_a_flat_spectrum(shape):
    W = matrix(shape, spikes=())
    factors = fast_factors(W, 2)
    S = np.linalg.svd(W.double().numpy(), compute_uv=False)
    assert np.allclose(factors.S.numpy(), S[:2], rtol=1e-5)
    assert torch.allclose(factors.U.T @ factors.U, torch.eye(2), atol=1e-5)


def test_gaps():
    W = torch.diag(torch.tensor([4.0, 3.0, 2.9997, 1.0]))
    factors = exact_factors(W, 2)
    assert factors.smallest_inner_gap == pytest.approx(0.25)
    assert factors.gap_at_cut == pytest.approx(1e-4, rel=1e-2)
    assert exact_factors(W, 4).gap_at_cut == 1.0


@pytest.mark.parametrize("method", [exact_factors, fast_factors])
def test_a_weight_without_factors_is_an_error(method):
    W = matrix((16, 20))
    for rank in (0, 17):
        with pytest.raises(FactorizationError, match="expected 1 to 16"):
            method(W, rank)
    for bad in (float("nan"), float("inf")):
        W[3, 4] = bad
        with pytest.raises(FactorizationError, match="non-finite"):
            method(W, 2)


@pytest.mark.parametrize("method", ["exact", "fast"])
@pytest.mark.parametrize("quantized", [True, False])
def test_the_store_gives_back_what_was_computed(tmp_path, monkeypatch, quantized, method):
    """Of a weight that is large enough for the Krylov path."""
    W = matrix((400, 640)).to(torch.bfloat16)
    weight = QuantizedWeight.quantize(W) if quantized else W
    store = FactorStore(tmp_path / "store")
    first = factors_of(weight, 2, method, store)
    monkeypatch.setattr("tinylora.svd.factor_store.compute_factors", None)  # is not called again
    assert_same(factors_of(weight, 2, method, store), first)
    other = "fast" if method == "exact" else "exact"
    for rank, way in ((3, method), (2, other)):
        assert store.get(weight_digest(weight), rank, way, (400, 640)) is None


def test_a_damaged_or_misplaced_file_is_computed_again(tmp_path, caplog):
    W, other, store = matrix((32, 32)), matrix((32, 32), seed=1), FactorStore(tmp_path)
    first = factors_of(W, 2, "exact", store)
    path = store.path(weight_digest(W), 2, "exact")
    path.write_bytes(path.read_bytes()[:50])
    assert_same(factors_of(W, 2, "exact", store), first)
    assert "damaged" in caplog.text
    path.rename(store.path(weight_digest(other), 2, "exact"))
    assert_same(factors_of(other, 2, "exact", store), exact_factors(other, 2))
    assert "other factors" in caplog.text
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {name: t[name] for name in ("U", "S", "Vh")},
        lambda t: t | {"U": t["U"][:-1].clone()},
        lambda t: t | {"Vh": torch.full_like(t["Vh"], float("nan"))},
        lambda t: t | {"S": t["S"].double()},
        lambda t: t | {"spectrum": t["spectrum"][:1].clone()},
    ],
)
def test_an_entry_that_holds_something_else_is_computed_again(tmp_path, caplog, change):
    W, store = matrix((48, 32)), FactorStore(tmp_path)
    first = factors_of(W, 2, "exact", store)
    path = store.path(weight_digest(W), 2, "exact")
    with safe_open(path, "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(change(tensors), path, metadata=about)
    assert_same(factors_of(W, 2, "exact", store), first)
    assert f"{path} is damaged" in caplog.text
    save_file(tensors, path, metadata={k: v for k, v in about.items() if k != "lapack"})
    assert store.get(weight_digest(W), 2, "exact", (48, 32)) is None


def test_an_entry_can_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        factors_of(matrix((16, 16)), 2, "exact", FactorStore(tmp_path))
    finally:
        os.umask(before)
    (entry,) = tmp_path.iterdir()
    assert entry.stat().st_mode & 0o777 == 0o640


def test_digests_tell_dtypes_shapes_and_values_apart():
    W = matrix((8, 8))
    changed = W.clone()
    changed[0, 0] += 1e-3
    variants = [W, W.to(torch.bfloat16), W.view(4, 16), changed, QuantizedWeight.quantize(W)]
    assert len({weight_digest(v) for v in variants}) == len(variants)
