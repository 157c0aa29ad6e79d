"""The kept outline of a model says what transformers' own model says."""

import json
import logging
import shutil

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM

from exporter.base import outline as outline_file
from exporter.base.checkpoint import open_checkpoint
from exporter.base.outline import Outline, outline_of
from exporter.errors import CheckpointError
from tinylora import FactorStore, target_names
from tinylora.errors import FactorStoreError

SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip


def meta(family, **settings):
    config = getattr(transformers, f"{family}Config")(**SMALL, **settings)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def facts(model):
    """What the exporter and tinylora ask of a model."""
    return {
        "modules": [(n, type(m).__name__, isinstance(m, nn.Linear), type(m) is nn.Linear)
                    for n, m in model.named_modules()],
        "linears": {n: (m.out_features, m.in_features) for n, m in model.named_modules()
                    if isinstance(m, nn.Linear)},
        "parameters": {n: tuple(p.shape) for n, p in model.named_parameters()},
        "aliases": sorted(n for n, _ in model.named_parameters(remove_duplicate=False)),
        "tied": sorted(model.all_tied_weights_keys),
        "targets": target_names(model),
    }  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Llama", "Gemma3Text", "StableLm"])
def test_the_outline_is_the_model(family, tied):
    model = meta(family, tie_word_embeddings=tied)
    outline = Outline.from_json(Outline.of(model, None).to_json())
    assert facts(outline.model()) == facts(model)
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert outline.state == {n: s for n, s in state.items() if not (tied and n == "lm_head.weight")}
    assert outline.kept == ("lm_head",)
    assert Outline.of(model, ["q_proj", "lm_head"]).kept == (
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "lm_head",
    )


@pytest.fixture
def copy(base, tmp_path):
    directory = tmp_path / "tiny-qwen"
    shutil.copytree(base, directory)
    return directory


def of(base, store):
    checkpoint = open_checkpoint(base)
    return outline_of(checkpoint.path, checkpoint.config, store)


def no_model(path):
    raise AssertionError(f"the model of {path} was built again")


def test_it_is_made_once_and_again_for_another_configuration(copy, tmp_path, monkeypatch):
    base, store = copy, FactorStore(tmp_path / "store")
    first = of(base, store)
    assert first == of(base, None)
    monkeypatch.setattr(outline_file, "_meta_model", no_model)
    assert of(base, store) == first
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    with pytest.raises(AssertionError, match="built again"):
        of(base, store)


def test_a_configuration_at_odds_with_itself_is_refused_in_words(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match=r"(?s)transformers cannot build.*layer_types"):
        of(copy, None)


@pytest.mark.parametrize("damage", ["", "{}", '{"format": "another"}', "[]"])
def test_a_damaged_one_is_made_again(base, tmp_path, caplog, damage):
    store = FactorStore(tmp_path / "store")
    first = of(base, store)
    (kept,) = store.directory.iterdir()
    kept.write_text(damage)
    with caplog.at_level(logging.WARNING, logger="tinylora.svd.factor_store"):
        assert of(base, store) == first
    assert "is damaged" in caplog.text
    assert Outline.from_json(kept.read_text()) == first


def test_a_store_that_cannot_be_used_is_named(base, tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(FactorStoreError, match="store.*choose another directory"):
        of(base, FactorStore(tmp_path / "store"))
