"""Configurations that would hang or crash a loader are refused with the name of the field."""

from pathlib import Path

import pytest

from tinylora.errors import ModelConfigError
from tinylora.models.model_config import check_model_config

FILE = Path("base/config.json")
GOOD = {
    "hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936,
    "num_hidden_layers": 36, "pad_token_id": 151643, "max_position_embeddings": 32768,
    "text_config": {"hidden_size": 640, "intermediate_size": [8, 16]}, "head_dim": None,
}  # fmt: skip


def quantized(*names):
    return {"quantization_config": {"load_in_4bit": True, "llm_int8_skip_modules": [*names]}}


@pytest.mark.parametrize(
    "config",
    [
        {},
        GOOD,
        GOOD | quantized("lm_head", "model.layers.0.mlp.up_proj", "visual", "model.layers.*.mlp"),
        GOOD | {"quantization_config": {"llm_int8_skip_modules": None}},
        GOOD | {"pad_token_id": -1},
    ],
)
def test_what_real_bases_have_passes(config):
    check_model_config(config, FILE)


def deep(depth):
    config = {}
    for _ in range(depth):
        config = {"a_config": config}
    return config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads is 0, expected a whole number from 1"),
        ({"hidden_size": 2**40}, "hidden_size is 1099511627776"),
        ({"hidden_size": 10**5000}, "hidden_size is a huge int"),
        ({"vocab_size": 32.5}, "vocab_size is 32.5"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"text_config": {"hidden_size": "large"}}, "text_config.hidden_size is 'large'"),
        ({"pad_token_id": 151936}, "pad_token_id is 151936, expected below vocab_size"),
        (deep(100), "nests deeper than 32 levels"),
        (quantized("(a+)+$|(.*)*x"), "expected the name of a module"),
        (quantized({}), "has {}, expected the name of a module"),
    ],
)
def test_what_no_model_can_have_is_refused(change, words):
    with pytest.raises(ModelConfigError, match="base/config.json: ") as error:
        check_model_config(GOOD | change, FILE)
    assert words in str(error.value) and len(str(error.value)) < 300
