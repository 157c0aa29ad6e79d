"""The next token of rows that an engine writes, beside float64 arithmetic written out here."""

import math

import pytest
import torch

from evaluator.config.run_config import DecodingConfig
from evaluator.generation.choice import agreement, choose
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


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("other_at", [0, 31, 32, 69, None])
def test_draft_is_followed_up_to_the_first_token_that_would_not_be_chosen(temperature, other_at):
    decoding = DecodingConfig(temperature=temperature, repetition_penalty=1.0)
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(70, VOCABULARY, generator=generator)
    written, own = [], []
    for row in logits:  # as a model would write, token by token
        text = ((1, 2), (9, *written))
        own += choose("arm", decoding, KEYS[:1], [text], row.unsqueeze(0)).tolist()
        written.append(own[-1])
    draft = list(own)
    if other_at is not None:
        draft[other_at] = (own[other_at] + 1) % VOCABULARY
    texts, drafts = [((1, 2), (9,))] * 3, [own[:40], draft, own]
    found = agreement("arm", decoding, KEYS[:1] * 3, texts, drafts, [logits[:40], logits, logits])
    read = (70, ()) if other_at is None else (other_at, (own[other_at],))
    assert found == [(40, ()), read, (70, ())]
