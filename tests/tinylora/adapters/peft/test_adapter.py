"""PEFT adapters that are damaged, hostile or of another kind: each has its own clear error."""

from functools import partial

import pytest
import torch

from tests.tinylora.conftest import changed_adapter
from tinylora import load_adapter
from tinylora.errors import ArtifactError, ArtifactMissingError

A_KEY = "base_model.model.model.layers.0.self_attn.q_proj.tinylora_A"
P_KEY, V_KEY = A_KEY[:-1] + "P", "base_model.tinylora_v.1"


@pytest.fixture
def adapter(saved):
    """Reads PEFT's adapter, changed."""
    return partial(changed_adapter, saved()[0])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("peft_type", "VERA", "VERA.*merge those with PEFT"),
        ("r", 0, "r is 0"),
        ("r", 3, "tinylora_A.*with r = 3"),
        ("u", 10**6, "u is 1000000"),
        ("u", 6, r"tinylora_P.*u = 6"),
        ("weight_tying", 1.5, "weight_tying is 1.5"),
        ("weight_tying", 0.0, r"tinylora_v\.3' is missing"),
        ("weight_tying", 1.0, r"tinylora_v\.1' belongs to no module"),
        ("projection_seed", 2**64, "projection_seed"),
        ("save_projection", False, "tinylora_P' is there"),
    ],
)
def test_bad_configurations(adapter, field, value, words):
    with pytest.raises(ArtifactError, match=words):
        adapter({field: value})


def test_projections_that_peft_0_19_seeded_by_a_random_hash_are_refused(saved):
    directory, _ = saved(save_projection=False)
    with pytest.raises(ArtifactError, match="PEFT 0.19 seeded projections with Python's hash"):
        changed_adapter(directory, {"peft_version": "0.19.1"})
    changed_adapter(saved()[0], {"peft_version": "0.19.1"})  # stored ones are as good as any


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (A_KEY, None, "tinylora_A' is missing"),
        (A_KEY, torch.zeros(2, 3, 4), r"tinylora_A' has shape \[2, 3, 4\]"),
        (P_KEY, None, "tinylora_P' is missing"),
        (P_KEY, torch.zeros(5, 2), r"tinylora_P' has shape \[5, 2\]"),
        (V_KEY, None, r"tinylora_v\.1' is missing"),
        (V_KEY, torch.zeros(4), r"tinylora_v\.1' has shape \[4\]"),
        (V_KEY, torch.full((5,), torch.inf), r"tinylora_v\.1' has non-finite"),
        ("base_model.model.lm_head.weight", torch.zeros(2), "no part of"),
    ],
)
def test_bad_tensors(adapter, key, value, words):
    with pytest.raises(ArtifactError, match=words):
        adapter(tensors={key: value})


def test_files_that_are_not_read(saved):
    directory, _ = saved()
    weights, config = directory / "adapter_model.safetensors", directory / "adapter_config.json"
    whole = weights.read_bytes()
    for length in (0, 4, 100, len(whole) - 1):
        weights.write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors"):
            load_adapter(directory)
    weights.rename(directory / "adapter_model.bin")
    with pytest.raises(ArtifactError, match="pickle"):
        load_adapter(directory)
    (directory / "adapter_model.bin").unlink()
    with pytest.raises(ArtifactMissingError, match=r"adapter_model\.safetensors"):
        load_adapter(directory)
    for text in ("{", "[" * 100_000, "[]", " " * (1 << 20) + "{}"):
        config.write_text(text)
        with pytest.raises(ArtifactError, match="adapter_config"):
            load_adapter(directory)
    config.unlink()
    with pytest.raises(ArtifactMissingError, match="adapter_config"):
        load_adapter(directory)
