import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exporter.fidelity import (
    ErrorSums,
    FidelityReport,
    ModuleFidelity,
    Spectrum,
    sums_over,
    sums_without_change,
)
from tinylora import LowRankDelta


def sums_of(error, delta):
    return sums_over([(error, delta)])


SPECTRUM = Spectrum((2.0, 1.0, 0.5), 0.5, 0.5, "test")


def module(sums, **changes):
    fields = {
        "module": "m", "shape": (2, 2), "sums": sums, "codes_moved": 3, "scales_changed": 0,
        "bytes": 10, "spectrum": SPECTRUM,
    }  # fmt: skip
    return ModuleFidelity(**(fields | changes))


@given(seed=st.integers(0, 1000), out=st.integers(1, 40), into=st.integers(1, 40))
def test_measures_against_numpy(seed, out, into):
    rng = np.random.default_rng(seed)
    E = rng.normal(size=(out, into)).astype(np.float32)
    D = rng.normal(size=(out, into)).astype(np.float32)
    sums = sums_of(torch.from_numpy(E), torch.from_numpy(D))
    e, d = E.astype(np.float64).ravel(), D.astype(np.float64).ravel()
    capture = (e @ d) / (d @ d)
    assert sums.capture == pytest.approx(capture, rel=1e-9, abs=1e-12)
    assert sums.residual == pytest.approx(np.linalg.norm(e - d) / np.linalg.norm(d), rel=1e-9)
    noise = np.linalg.norm(e - capture * d) / np.linalg.norm(d)
    assert sums.noise == pytest.approx(noise, rel=1e-6, abs=1e-7)


def test_sums_are_float64_ones_for_any_division_into_pieces():
    rng = np.random.default_rng(1)
    e, d = (rng.normal(size=(301, 701)).astype(np.float32) for _ in "ED")
    E, D = e.astype(np.float64), d.astype(np.float64)
    wanted = [(D * D).sum(), (E * D).sum(), ((E - D) ** 2).sum()]
    for rows in (1, 64, 300, 301):
        parts = (torch.split(torch.from_numpy(x), rows) for x in (e, d))
        found = sums_over(zip(*parts, strict=True))
        assert [found.delta, found.cross, found.miss] == pytest.approx(wanted, rel=1e-12)


def test_zero_delta_has_no_measures():
    sums = sums_of(torch.ones(2, 2), torch.zeros(2, 2))
    assert sums.capture is sums.residual is sums.noise is sums.residual_bound is None
    report = FidelityReport((module(sums),), 10)
    assert report.verdict == "empty"
    json.dumps(report.as_dict(), allow_nan=False)


@given(seed=st.integers(0, 500), rank=st.integers(1, 4))
def test_norm_from_the_factors_is_the_norm_of_the_product(seed, rank):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn((9, rank), generator=generator)
    right = torch.randn((rank, 11), generator=generator)
    sums = sums_without_change(LowRankDelta(left, right))
    expected = float((left.double() @ right.double()).square().sum())
    assert sums.delta == pytest.approx(expected, rel=1e-9)
    assert sums.miss == sums.delta and sums.cross == 0
    rounding = LowRankDelta(left, right, torch.bfloat16)
    rounded = rounding.dense().double().square().sum()
    assert sums_without_change(rounding).delta == pytest.approx(float(rounded))


@pytest.mark.parametrize(
    ("cross", "miss", "verdict"),
    [(1.0, 0.0001, "kept"), (0.5, 0.3, "partly kept"), (0.01, 0.98, "lost"), (1.0, 5.0, "lost")],
)
def test_verdict(cross, miss, verdict):
    sums = ErrorSums(delta=1.0, cross=cross, miss=miss)
    assert FidelityReport((module(sums),), 1).verdict == verdict


def test_total_weighs_modules_by_their_norm():
    small = ErrorSums(1.0, 1.0, 0.0, 0.0)
    large = ErrorSums(3.0, 0.0, 3.0, 3.0)
    report = FidelityReport((module(small), module(large)), 20)
    assert report.total.capture == pytest.approx(0.25)
    assert report.total.residual_bound == pytest.approx(math.sqrt(0.75))
    mixed = FidelityReport((module(small), module(ErrorSums(1, 1, 0, None))), 20)
    assert mixed.total.residual_bound is None
    assert report.as_dict()["total"]["codes_moved"] == 6
