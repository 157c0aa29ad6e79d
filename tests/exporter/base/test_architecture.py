"""What is read off a model of transformers."""

import pytest
import transformers
from transformers import AutoModelForCausalLM

from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.errors import CheckpointError
from tests.exporter.conftest import SMALL, edited
from tinylora import target_names


def read(path, **settings):
    return read_architecture(path, settings)


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
    assert found.parameters == state and found.tied == (
        {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}
    )
    assert list(found.targets) == target_names(model) and found.same_leaf
    assert found.kept == ("lm_head",)
    assert found.linears == {name: state[f"{name}.weight"] for name in found.targets}
    skipped = read(tmp_path, quantization_config={"llm_int8_skip_modules": ["q_proj", "lm_head"]})
    queries = tuple(f"model.layers.{layer}.self_attn.q_proj" for layer in range(2))
    assert skipped.kept == tuple(sorted(("lm_head", *queries)))


def test_config_at_odds_with_itself_is_refused_in_words(base, tmp_path):
    odd = edited(base, tmp_path / "b", num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"(?s)transformers cannot build.*layer.types"):
        read(odd, **open_checkpoint(odd).config)
