"""What is read off a model of transformers, once for a base and an adapter."""

import logging

import pytest
import transformers
from transformers import AutoModelForCausalLM

from exporter.base import architecture as architecture_file
from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.errors import CheckpointError
from tests.exporter.conftest import SMALL, edited
from tinylora import FactorStore, target_names
from tinylora.errors import FactorStoreError


def read(path, store=None, adapter="one", **settings):
    return read_architecture(path, settings, target_names, store, adapter)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Llama", "Gemma3Text", "StableLm"])
def test_architecture_is_that_of_the_model(family, tied, tmp_path):
    config = getattr(transformers, f"{family}Config")(**SMALL, tie_word_embeddings=tied)
    config.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_config(config)
    found = read(tmp_path)
    state = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if tied:
        del state["lm_head.weight"]
    assert found.parameters == state and found.tied == (("lm_head.weight",) if tied else ())
    assert list(found.targets) == target_names(model) and found.same_leaf
    assert found.kept == ("lm_head",)
    assert found.linears == {name: state[f"{name}.weight"] for name in found.targets}
    skipped = read(tmp_path, quantization_config={"llm_int8_skip_modules": ["q_proj", "lm_head"]})
    queries = tuple(f"model.layers.{layer}.self_attn.q_proj" for layer in range(2))
    assert skipped.kept == tuple(sorted(("lm_head", *queries)))


def no_model(path):
    raise AssertionError(f"the model of {path} was built again")


def test_model_is_built_again_only_for_another_config_or_adapter(base, tmp_path, monkeypatch):
    store = FactorStore(tmp_path / "store")
    first = read(base, store)
    assert first == read(base)
    monkeypatch.setattr(architecture_file, "_meta_model", no_model)
    assert read(base, store) == first
    with pytest.raises(AssertionError, match="built again"):
        read(base, store, adapter="two")
    with pytest.raises(AssertionError, match="built again"):
        read(edited(base, tmp_path / "b", rms_norm_eps=1e-3), store)


def test_config_at_odds_with_itself_is_refused_in_words(base, tmp_path):
    odd = edited(base, tmp_path / "b", num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"(?s)transformers cannot build.*layer_types"):
        read(odd, **open_checkpoint(odd).config)


@pytest.mark.parametrize("damage", ["", "{}", '{"key": "another"}', "[]"])
def test_damaged_entry_of_the_store_is_made_again(base, tmp_path, caplog, damage):
    store = FactorStore(tmp_path / "store")
    first = read(base, store)
    (kept,) = store.directory.iterdir()
    right = kept.read_text()
    kept.write_text(damage)
    with caplog.at_level(logging.WARNING, logger="tinylora.svd.factor_store"):
        assert read(base, store) == first
    assert "is damaged" in caplog.text and kept.read_text() == right


def test_store_that_cannot_be_used_is_named(base, tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(FactorStoreError, match="store.*choose another directory"):
        read(base, FactorStore(tmp_path / "store"))
