"""Predictions of chosen positions, and what of them waits on the disk."""

import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen2ForCausalLM

from tests.conftest import tiny_config
from tinylora.models.predictions import KeptPredictions, predict


@dataclass(frozen=True)
class Text:
    token_ids: tuple[int, ...]
    positions: tuple[int, ...]


TEXTS = (Text((5, 9, 200, 31, 7), (1, 4)), Text((3, 4), (0, 1)), Text((8, 8, 80, 19), (3,)))


def plain(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(tiny_config()).eval()


def capped():
    """Its logits are capped behind the output layer."""
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Gemma2Config(
            **shape, num_attention_heads=4, num_key_value_heads=2, vocab_size=320,
            final_logit_softcapping=0.5,
        )  # fmt: skip
        return Gemma2ForCausalLM(config).eval()


class Doubled(nn.Module):
    """An output layer with something on it, as an adapter is."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, states):
        return 2 * self.layer(states)


def adapted():
    model = plain()
    model.lm_head = Doubled(model.lm_head)
    return model


@pytest.mark.parametrize("make", [plain, capped, adapted])
def test_predictions_are_those_of_each_text_alone(make):
    model = make()
    found = predict(model, TEXTS)
    model.double()
    with torch.no_grad():
        for text, one in zip(TEXTS, found, strict=True):
            whole = model(torch.tensor([text.token_ids])).logits[0]
            assert (one.logits - whole[list(text.positions)]).abs().max() < 1e-5


@pytest.mark.parametrize(("make", "width"), [(plain, 128), (capped, 320), (adapted, 320)])
def test_what_waits_makes_the_same_logits(make, width, tmp_path):
    """Of a plain output layer its input waits, which is smaller."""
    model = make()
    kept = KeptPredictions(tmp_path)
    found = predict(model, TEXTS)
    for number, one in enumerate(found):
        kept.keep(str(number), one)
    del model
    for number, one in enumerate(found):
        loaded = kept.load(str(number))
        assert (loaded - one.logits).abs().max() <= 1e-5 * one.logits.abs().max()
        assert torch.equal(loaded, kept.load(str(number)))
    numbers = sum(len(text.positions) for text in TEXTS) * width
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 4 * numbers <= size < 4 * numbers + 500 * len(TEXTS)


def test_models_with_equal_output_layers_hold_one(tmp_path):
    kept = KeptPredictions(tmp_path)
    heads = []
    for name, seed in (("one", 0), ("equal", 0), ("other", 1)):
        model = plain(seed)
        kept.keep(name, predict(model, TEXTS)[0])
        heads.append(weakref.ref(model.lm_head.weight))
        del model
    assert [head() is not None for head in heads] == [True, False, True]
    assert torch.equal(kept.load("one"), kept.load("equal"))
    assert not torch.equal(kept.load("one"), kept.load("other"))
