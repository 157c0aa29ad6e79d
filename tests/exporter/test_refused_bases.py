"""Bases that an adapter cannot belong to are refused in words, by the exporter and by restore()."""

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from exporter import ExportRequest, export
from tinylora import load_artifact, restore
from tinylora.errors import FusedProjectionError, TargetMismatchError, TinyLoRAError

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}


@pytest.mark.parametrize(
    ("family", "settings", "error", "match"),
    [
        ("Phi3", SMALL, FusedProjectionError, "qkv_proj holds several projections in one weight"),
        (
            "Mixtral",
            SMALL | EXPERTS | {"num_local_experts": 4},
            FusedProjectionError,
            "all experts in one tensor",
        ),
        ("Qwen3Moe", SMALL | EXPERTS | {"num_experts": 4}, FusedProjectionError, "all experts"),
        (
            "GPT2",
            {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": None,
             "eos_token_id": 1},
            TargetMismatchError,
            "no target module.*Conv1D",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalnum() else "",
)  # fmt: skip
def test_refused(family, settings, error, match, make_artifact, tmp_path):
    config = getattr(transformers, f"{family}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    base = tmp_path / "base"
    model.save_pretrained(base)
    # even where the number of modules is the artifact's: 4 of each Phi-3 layer have such names
    artifact = make_artifact(1e-3, layers=8)
    modules = dict(model.named_modules())
    with pytest.raises(error, match=match) as refused:
        restore(model, load_artifact(artifact))
    assert dict(model.named_modules()) == modules
    assert isinstance(refused.value, TinyLoRAError)
    with pytest.raises(error, match=match):
        export(ExportRequest(base, artifact, tmp_path / "out"))
    assert [p.name for p in tmp_path.iterdir()] == ["base"]
