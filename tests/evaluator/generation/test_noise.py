import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from evaluator.generation.noise import gumbel_noise, noise_key
from tinylora.philox import philox4x32


def noise(keys, position, vocabulary):
    return gumbel_noise(torch.tensor(keys), position, vocabulary)


def test_value_is_the_documented_function_of_key_position_and_token():
    """An independent computation of one value with Python integers and float64."""
    digest = hashlib.blake2b(b'[7, "P1000", 3]', digest_size=16, person=b"gumbel-noise").digest()
    d = np.frombuffer(digest, dtype="<u4")
    position, token = 11, 5
    counter = tuple(torch.tensor(int(word)) for word in (token // 2, position, d[2], d[3]))
    words = [int(word) for word in philox4x32(counter, (int(d[0]), int(d[1])))]
    bits = ((words[2] << 32 | words[3]) >> 12) + 0.5
    expected = -np.log(-np.log(bits / 2**52))
    found = noise([noise_key(7, "P1000", 3)], position, 8)[0, token]
    assert float(found) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("what", ["token", "position", "sample", "problem", "seed"])
def test_neighbours_are_independent(what):
    vocabulary = 40_000
    base = noise([noise_key(0, "P1", 0)], 0, vocabulary)[0]
    other = {
        "token": lambda: base.roll(1),
        "position": lambda: noise([noise_key(0, "P1", 0)], 1, vocabulary)[0],
        "sample": lambda: noise([noise_key(0, "P1", 1)], 0, vocabulary)[0],
        "problem": lambda: noise([noise_key(0, "P2", 0)], 0, vocabulary)[0],
        "seed": lambda: noise([noise_key(1, "P1", 0)], 0, vocabulary)[0],
    }[what]()
    correlation = float(torch.corrcoef(torch.stack([base, other]))[0, 1])
    assert abs(correlation) < 4 / vocabulary**0.5
    assert not torch.equal(base, other)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(), st.text(), st.integers(0, 9)), min_size=1, max_size=6),
    st.integers(0, 5000),
    st.integers(1, 70),
    st.integers(0, 9),
)
def test_value_does_not_depend_on_batch_order_or_vocabulary(names, position, vocabulary, more):
    keys = [noise_key(*name) for name in names]
    whole = noise(keys, position, vocabulary + more)
    for index, key in enumerate(keys):
        alone = noise([key], position, vocabulary)
        assert torch.equal(alone[0], whole[index, :vocabulary])


def test_largest_noised_logit_samples_the_softmax():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0], dtype=torch.float64)
    temperature, draws = 0.7, 20_000
    keys = [noise_key(3, "P", sample) for sample in range(draws)]
    tokens = (logits / temperature + noise(keys, 17, 5)).argmax(dim=-1)
    observed = torch.bincount(tokens, minlength=5).numpy()
    expected = torch.softmax(logits / temperature, dim=-1).numpy() * draws
    assert chisquare(observed, expected).pvalue > 0.01
