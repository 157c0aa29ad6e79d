"""KL of logits beside its definition, term by term, and what is made of many tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinylora.models.token_divergence import kl_divergence, retention, summarize_kl


def reference_kl(one, two):
    """Σ p (ln p − ln q) term by term in float64."""
    p = one.double().exp() / one.double().exp().sum(dim=1, keepdim=True)
    q = two.double().exp() / two.double().exp().sum(dim=1, keepdim=True)
    return (p * (p.log() - q.log())).sum(dim=1)


@given(st.integers(0, 200), st.integers(1, 150), st.integers(2, 9), st.floats(1e-3, 5))
def test_kl_divergence_is_that_of_the_definition(seed, positions, vocabulary, spread):
    generator = torch.Generator().manual_seed(seed)
    one, two = (torch.randn(positions, vocabulary, generator=generator) * spread for _ in range(2))
    found = kl_divergence(one, two)
    assert found.dtype == torch.float64 and found.shape == (positions,)
    torch.testing.assert_close(found, reference_kl(one, two), rtol=1e-9, atol=1e-14)
    assert bool((kl_divergence(one, one) == 0).all())


def test_known_divergences():
    sure, even = torch.tensor([[200.0, 0, 0, 0]]), torch.zeros(1, 4)
    assert kl_divergence(sure, even).item() == pytest.approx(math.log(4), rel=1e-12)
    assert kl_divergence(even, sure).item() == pytest.approx(150 - math.log(4), rel=1e-12)
    half = torch.tensor([[0.0, 0.0, -1e4, -1e4]])
    assert kl_divergence(half, even).item() == pytest.approx(math.log(2), rel=1e-12)
    shifted = torch.tensor([[1.0, 2.0, 3.0]])
    assert kl_divergence(shifted, shifted + 100).item() == pytest.approx(0, abs=1e-14)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=300))
def test_a_summary_is_that_of_the_sorted_values(values):
    found = summarize_kl(values)
    ordered = sorted(values)

    def quantile(share):  # linear between the two nearest ranks
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    assert found.tokens == len(values)
    assert found.mean == pytest.approx(math.fsum(values) / len(values), rel=1e-12)
    assert found.p50 == pytest.approx(quantile(0.5), rel=1e-12)
    assert found.p99 == pytest.approx(quantile(0.99), rel=1e-9)
    assert found.largest == ordered[-1]


def test_retention_of_the_reference_of_the_base_and_below_the_floor():
    assert retention(0.0, 0.5, 1e-12) == 1.0
    assert retention(0.5, 0.5, 1e-12) == 0.0
    assert retention(1.0, 0.5, 1e-12) == -1.0
    assert retention(0.0, 1e-12, 1e-12) is None
    assert retention(0.0, 0.0, 0.0) is None
