"""The next token of rows that an engine writes, beside float64 arithmetic written out here."""

import math

import pytest
import torch

from evaluator.config.run_config import DecodingConfig
from evaluator.generation.choice import choose
from evaluator.generation.noise import gumbel_noise, noise_key

VOCABULARY = 40
TEXTS = [((1, 2, 3), ()), ((5,), (7, 7, 9)), ((4, 4), (8,)), ((6, 1, 2, 3, 4), (39, 0))]
KEYS = [noise_key(3, f"P{row}", row) for row in range(len(TEXTS))]


def expected(logits, decoding):
    chosen = []
    for row, (prompt, written) in enumerate(TEXTS):
        scores = logits[row].tolist()
        for token in {*prompt, *written}:
            s, penalty = scores[token], decoding.repetition_penalty
            scores[token] = s / penalty if s > 0 else s * penalty
        scores = [s / (decoding.temperature or 1) for s in scores]
        if decoding.top_k:
            least = sorted(scores)[-decoding.top_k]
            scores = [s if s >= least else -math.inf for s in scores]
        if decoding.temperature:
            noise = gumbel_noise(torch.tensor([KEYS[row]]), len(written), VOCABULARY)[0]
            scores = [s + float(n) for s, n in zip(scores, noise, strict=True)]
        chosen.append(scores.index(max(scores)))
    return chosen


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"repetition_penalty": 3.0},
        {"temperature": 0.7},
        {"temperature": 1.5, "top_k": 3, "repetition_penalty": 1.5},
    ],
)
def test_each_row_goes_by_its_own_text_and_noise(rules):
    decoding = DecodingConfig(**{"repetition_penalty": 1.0, **rules})
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        logits = torch.randn(len(TEXTS), VOCABULARY, generator=generator) * 2
        chosen = choose("arm", decoding, KEYS, TEXTS, logits)
        assert chosen.tolist() == expected(logits, decoding)
