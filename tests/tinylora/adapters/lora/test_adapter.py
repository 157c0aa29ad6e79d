"""LoRA adapters that cannot be folded, or are damaged: each is refused by name."""

import shutil
from functools import partial

import pytest
import torch

from tests.lora_adapters import save_lora
from tests.tinylora.conftest import changed_adapter
from tinylora.errors import ArtifactError

PREFIX = "base_model.model.model.layers.0.self_attn"
A_KEY, B_KEY = f"{PREFIX}.q_proj.lora_A.weight", f"{PREFIX}.q_proj.lora_B.weight"


@pytest.fixture(scope="module")
def made(tiny_base, tmp_path_factory):
    return save_lora(tmp_path_factory.mktemp("lora") / "adapter", tiny_base)[0]


@pytest.fixture
def adapter(made, tmp_path):
    """Reads a copy of the adapter, changed."""
    return partial(changed_adapter, shutil.copytree(made, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("use_dora", True, "use_dora"),
        ("bias", "all", "bias is 'all'"),
        ("something_new", "on", "something_new is 'on'"),
        ("init_lora_weights", "pissa", "init_lora_weights is 'pissa'.*changes the base's weights"),
        ("init_lora_weights", 1, "init_lora_weights is 1"),
        ("r", 0, "r is 0"),
        ("r", 5, "gives this module rank 5"),
        ("r", True, "r is True, expected a valid integer"),
        ("lora_alpha", "8", "lora_alpha is '8', expected a valid number"),
        ("lora_alpha", float("nan"), "lora_alpha is nan"),
        ("use_rslora", 1, "use_rslora is 1, expected a valid boolean"),
        ("rank_pattern", {"q_proj": 2.5}, r"rank_pattern\['q_proj'\] is 2.5"),
        ("alpha_pattern", {"(a+)+": 3}, "no repeated group"),
        ("rank_pattern", {"a?" * 30 + "a" * 30: 3}, "at most two"),
        ("rank_pattern", {"(a|a)" * 30 + "b": 3}, "at most two"),
        ("alpha_pattern", {"[": 3}, "regular expression"),
        ("target_modules", ["v_proj"], "none that target_modules"),
        ("target_modules", [1], "no string"),
        ("base_model_name_or_path", "a\n# b", "one line"),
    ],
)
def test_configurations_that_are_refused(adapter, field, value, words):
    with pytest.raises(ArtifactError, match=words):
        adapter({field: value})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({A_KEY: None}, "lora_A.weight' is missing"),
        ({A_KEY: torch.zeros(4, 128, 3, 3)}, "expected .r, in. and .out, r. of a linear layer"),
        ({A_KEY: torch.zeros(4, 128, dtype=torch.int32)}, "dtype I32"),
        ({B_KEY: torch.full((128, 4), torch.nan)}, "non-finite"),
        ({f"{PREFIX}.q_proj.lora_magnitude_vector": torch.ones(3)}, "magnitudes of DoRA"),
        ({"base_model.model.lm_head.modules_to_save.weight": torch.ones(3)}, "as a whole"),
        ({"base_model.model.lm_head.base_layer.weight": torch.ones(3, 3)}, "base's own layer"),
        ({f"{PREFIX}.q_proj.bias": torch.ones(3)}, "no part of a LoRA"),
    ],
)
def test_tensors_that_are_refused(adapter, changes, words):
    with pytest.raises(ArtifactError, match=words):
        adapter(tensors=changes)


def test_fields_without_effect_are_taken(adapter):
    changes = {"fan_in_fan_out": True, "lora_dropout": 0.5, "init_lora_weights": "eva"}
    assert len(adapter(changes | {"loftq_config": {"bits": 4}}).shapes) == 6
    assert adapter({"target_modules": "q_proj|whatever"}).config.names("any")
