"""KL of logits beside its definition, term by term, and what is made of many tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinylora.models.token_divergence import kept, kl_divergence


@given(st.integers(0, 200), st.integers(1, 150), st.integers(2, 9), st.floats(1e-3, 5))
def test_kl_divergence_is_that_of_the_definition(seed, positions, vocabulary, spread):
    generator = torch.Generator().manual_seed(seed)
    one, two = (torch.randn(positions, vocabulary, generator=generator) * spread for _ in range(2))
    found = kl_divergence(one, two)
    p, q = (x.double().exp() / x.double().exp().sum(dim=1, keepdim=True) for x in (one, two))
    assert found.dtype == torch.float64 and found.shape == (positions,)
    torch.testing.assert_close(found, (p * (p.log() - q.log())).sum(dim=1), rtol=1e-9, atol=1e-14)
    assert bool((kl_divergence(one, one) == 0).all())


def test_known_divergences():
    sure, even = torch.tensor([[200.0, 0, 0, 0]]), torch.zeros(1, 4)
    assert kl_divergence(sure, even).item() == pytest.approx(math.log(4), rel=1e-12)
    assert kl_divergence(even, sure).item() == pytest.approx(150 - math.log(4), rel=1e-12)
    shifted = torch.tensor([[1.0, 2.0, 3.0]])
    assert kl_divergence(shifted, shifted + 100).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(
    ("divergence", "effect", "expected"),
    [(0.0, 0.5, 1.0), (0.5, 0.5, 0.0), (1.0, 0.5, -1.0), (0.0, 4e-12, None), (0.0, 0.0, None)],
)
def test_retention_of_the_reference_of_the_base_and_below_the_floor(divergence, effect, expected):
    found = kept(divergence, effect, 1e-12)
    assert (found and found.retention) == expected


@given(st.floats(0, 2), st.floats(0, 1), st.floats(0, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_bounds_hold_whatever_arithmetic_does_within_the_floor(true, blur, one, two, three):
    """√KL on a line: reference at 0, base at 1, model at ``true``; each is moved by ≤ √floor."""
    moved = [place + blur * shift for place, shift in ((0, two), (1, three), (true, 2 * one - 1))]
    found = kept((moved[2] - moved[0]) ** 2, (moved[1] - moved[0]) ** 2, blur**2)
    if found is not None:
        assert found.at_least <= 1 - true**2 + 1e-9
        assert not (true == 0 and found.loss_seen)
