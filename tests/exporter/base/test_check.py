"""Bases that an adapter cannot belong to are refused in words, by the exporter and by restore()."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from exporter import ExportRequest, export
from exporter.errors import PlanError
from tinylora import load_artifact, restore
from tinylora.errors import TargetMismatchError, TinyLoRAError

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
        ("Phi3", SMALL, TargetMismatchError, "qkv_proj holds several projections in one weight"),
        (
            "Mixtral",
            SMALL | EXPERTS | {"num_local_experts": 4},
            TargetMismatchError,
            "all experts in one tensor",
        ),
        ("Qwen3Moe", SMALL | EXPERTS | {"num_experts": 4}, TargetMismatchError, "all experts"),
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


# --- weights that are stored in another way than config.json says --------------------------------

Q0 = "model.layers.0.self_attn.q_proj"


def edit_config(directory, **settings):
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] = config.get("quantization_config", {}) | settings
    path.write_text(json.dumps(config))


def refuse_all(base, artifact, tmp_path, match):
    for name in ("nf4", "nf4-embedded", "bf16", "fp16", "fp32", "lora", "peft-tinylora"):
        with pytest.raises(PlanError, match=match):
            export(ExportRequest(base, artifact, tmp_path / "out", format=name))
    assert not (tmp_path / "out").exists()


def test_16_bit_weights_whose_config_says_4_bits(base, artifact, tmp_path):
    shutil.copytree(base, tmp_path / "b")
    edit_config(tmp_path / "b", load_in_4bit=True, quant_method="bitsandbytes")
    match = r"model\.safetensors: tensor .* is stored as BF16, but .*quantization_config"
    refuse_all(tmp_path / "b", artifact, tmp_path, match)


def test_one_16_bit_weight_that_is_not_in_the_skip_list(base, make_4bit, artifact, tmp_path):
    base4 = tmp_path / "b"
    shutil.copytree(make_4bit(base, skip=(Q0,)), base4)
    edit_config(base4, llm_int8_skip_modules=["lm_head"])
    refuse_all(
        base4, artifact, tmp_path, rf"{Q0}\.weight' is stored as BF16.*llm_int8_skip_modules"
    )


def test_a_4_bit_weight_in_the_skip_list(base_4bit, artifact, tmp_path):
    shutil.copytree(base_4bit, tmp_path / "b")
    edit_config(tmp_path / "b", llm_int8_skip_modules=["lm_head", Q0])
    refuse_all(tmp_path / "b", artifact, tmp_path, rf"{Q0}\.weight' is stored in 4 bits, but")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32])
def test_a_linear_weight_of_integers(dtype, base, artifact, tmp_path):
    shutil.copytree(base, tmp_path / "b")
    path = tmp_path / "b" / "model.safetensors"
    tensors = load_file(path)
    tensors[f"{Q0}.weight"] = (tensors[f"{Q0}.weight"] * 100).to(dtype)
    save_file(tensors, path, metadata={"format": "pt"})
    refuse_all(tmp_path / "b", artifact, tmp_path, r"stored as I(8|32), expected a floating-point")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("skip", [None, ["lm_head", "model.layers.1.mlp"]], ids=["default", "list"])
def test_heads_and_skipped_modules_may_be_16_bit(
    tied, skip, make_base, make_4bit, artifact, tmp_path
):
    """The usual 4-bit bases: a head left alone, tied or not, and patterns in the skip list."""
    skipped = [f"model.layers.1.mlp.{name}_proj" for name in ("gate", "up", "down")] if skip else []
    base4 = make_4bit(make_base(tie_word_embeddings=tied), skip=skipped)
    edit_config(base4, llm_int8_skip_modules=skip)
    out = export(ExportRequest(base4, artifact, tmp_path / "out", format="nf4")).out
    packed = [name for name in load_file(out / "model.safetensors") if ".quant_state." in name]
    assert len(packed) == 14 - len(skipped)


def test_a_tied_head_that_no_list_names(base, make_4bit, artifact, tmp_path):
    """It has no weight of its own that could be 4-bit."""
    base4 = make_4bit(base)
    edit_config(base4, llm_int8_skip_modules=["nothing"])
    export(ExportRequest(base4, artifact, tmp_path / "out", format="nf4"))


def with_tensors(base, directory, extra):
    shutil.copytree(base, directory)
    file = directory / "model.safetensors"
    save_file(load_file(file) | extra, file, metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.U",
        "model.layers.0.self_attn.q_proj.P",
        "model.layers.1.mlp.up_proj.lora_A.weight",
        "base_model.model.model.layers.0.mlp.up_proj.lora_B.default.weight",
        "model.layers.0.self_attn.v_proj.tinylora_A",
        "model.layers.0.self_attn.v_proj.base_layer.weight",
        "tiny_lora_params.global_v",
        "global_params.global_v",
        "shared.v",
    ],
)
def test_a_base_with_an_unmerged_adapter_is_refused(base, artifact, run, tmp_path, name):
    """transformers loads it as the base alone, and so would the export."""
    odd = with_tensors(base, tmp_path / "tiny-qwen", {name: torch.ones(2, 64)})
    with pytest.raises(PlanError, match="1 tensors of an adapter that was not merged"):
        run(odd, artifact, "bf16")
    assert not (tmp_path / "out").exists()


def test_tensors_that_the_model_does_not_use_are_named(base, artifact, run, tmp_path):
    extra = {"model.layers.2.mlp.up_proj.weight": torch.ones(3, 2)}
    report = run(with_tensors(base, tmp_path / "tiny-qwen", extra), artifact, "bf16")
    assert any("does not use: model.layers.2.mlp.up_proj.weight." in w for w in report.warnings)
    assert "model.layers.2.mlp.up_proj.weight" in load_file(report.out / "model.safetensors")


def test_rotary_frequencies_of_older_checkpoints_are_not_named(base, artifact, run, tmp_path):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    report = run(with_tensors(base, tmp_path / "tiny-qwen", extra), artifact, "bf16")
    assert not any("does not use" in warning for warning in report.warnings)


def test_a_stored_alias_of_a_tied_head_is_not_named(base, artifact, run, tmp_path):
    head = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    odd = with_tensors(base, tmp_path / "tiny-qwen", {"lm_head.weight": head.clone()})
    assert not any("does not use" in w for w in run(odd, artifact, "bf16").warnings)
