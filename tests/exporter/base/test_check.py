"""Bases that an adapter cannot belong to are refused in words, by the exporter and by restore()."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from exporter import ExportRequest, export
from exporter.errors import PlanError
from tests.exporter.conftest import SMALL, edited
from tinylora import load_artifact, restore
from tinylora.errors import TargetMismatchError, TinyLoRAError

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GPT2 = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "eos_token_id": 1}


@pytest.mark.parametrize(
    ("family", "settings", "match"),
    [
        ("Phi3", SMALL, "qkv_proj holds several projections in one weight"),
        ("Qwen3Moe", SMALL | EXPERTS, "all experts"),
        ("GPT2", GPT2 | {"bos_token_id": None}, "no target module.*Conv1D"),
    ],
)
def test_a_model_without_separate_projections_is_refused(
    family, settings, match, make_artifact, tmp_path
):
    config = getattr(transformers, f"{family}Config")(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    base = tmp_path / "base"
    model.save_pretrained(base)
    # even where the number of modules is the artifact's: 4 of each Phi-3 layer have such names
    artifact = make_artifact(1e-3, layers=8)
    modules = dict(model.named_modules())
    with pytest.raises(TargetMismatchError, match=match) as refused:
        restore(model, load_artifact(artifact))
    assert dict(model.named_modules()) == modules
    assert isinstance(refused.value, TinyLoRAError)
    with pytest.raises(TargetMismatchError, match=match):
        export(ExportRequest(base, artifact, tmp_path / "out"))
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


Q0 = "model.layers.0.self_attn.q_proj"


def quantized(base, directory, **settings):
    """A copy whose quantization_config is changed."""
    known = json.loads((base / "config.json").read_text()).get("quantization_config", {})
    return edited(base, directory, quantization_config=known | settings)


def refuse_all(base, artifact, tmp_path, match):
    for name in ("nf4", "bf16", "lora"):
        with pytest.raises(PlanError, match=match):
            export(ExportRequest(base, artifact, tmp_path / "out", format=name))
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_stored_as_the_config_says(
    base, base_4bit, make_4bit, artifact, tmp_path
):
    dense = quantized(base, tmp_path / "a", load_in_4bit=True, quant_method="bitsandbytes")
    match = r"model\.safetensors: tensor .* is stored as BF16, but .*quantization_config"
    refuse_all(dense, artifact, tmp_path, match)
    one = make_4bit(base, skip=(Q0,))
    one = quantized(one, tmp_path / "b", llm_int8_skip_modules=["lm_head"])
    match = rf"{Q0}\.weight' is stored as BF16.*llm_int8_skip_modules"
    refuse_all(one, artifact, tmp_path, match)
    packed = quantized(base_4bit, tmp_path / "c", llm_int8_skip_modules=["lm_head", Q0])
    refuse_all(packed, artifact, tmp_path, rf"{Q0}\.weight' is stored in 4 bits, but")

    def to_integers(tensors):
        tensors[f"{Q0}.weight"] = (tensors[f"{Q0}.weight"] * 100).to(torch.int8)

    integers = edited(base, tmp_path / "d", to_integers)
    refuse_all(integers, artifact, tmp_path, "stored as I8, expected a floating-point")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("skip", [None, ["lm_head", "model.layers.1.mlp"]], ids=["default", "list"])
def test_heads_and_skipped_modules_may_be_16_bit(
    tied, skip, make_base, make_4bit, artifact, tmp_path
):
    """The usual 4-bit bases: a head left alone, tied or not, and patterns in the skip list."""
    skipped = [f"model.layers.1.mlp.{name}_proj" for name in ("gate", "up", "down")] if skip else []
    base4 = make_4bit(make_base(tie_word_embeddings=tied), skip=skipped)
    base4 = quantized(base4, tmp_path / "b", llm_int8_skip_modules=skip)
    out = export(ExportRequest(base4, artifact, tmp_path / "out", format="nf4")).out
    stored, before = (load_file(path / "model.safetensors") for path in (out, base4))
    assert len([name for name in stored if ".quant_state." in name]) == 14 - len(skipped)
    for name in skipped:  # a target that the base keeps in 16 bits is folded dense
        assert stored[f"{name}.weight"].dtype == torch.bfloat16
        assert not torch.equal(stored[f"{name}.weight"], before[f"{name}.weight"])


def with_tensors(base, directory, extra):
    return edited(base, directory, lambda tensors: tensors.update(extra))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.U",
        "model.layers.1.mlp.up_proj.lora_A.weight",
        "base_model.model.model.layers.0.mlp.up_proj.lora_B.default.weight",
        "model.layers.0.self_attn.v_proj.tinylora_A",
        "tiny_lora_params.global_v",
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


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.rotary_emb.inv_freq", "lm_head.weight"])
def test_tensors_that_transformers_expects_are_not_named(base, artifact, run, tmp_path, name):
    """Of older checkpoints, and the alias of a tied head."""
    head = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    odd = with_tensors(base, tmp_path / "tiny-qwen", {name: head.clone()})
    assert not any("does not use" in w for w in run(odd, artifact, "bf16").warnings)
