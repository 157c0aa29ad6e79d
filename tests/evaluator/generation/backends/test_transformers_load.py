"""Arms on real checkpoints: dense, 4-bit, restored, embedded, and those that must be refused."""

import importlib.util
import json
import shutil

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import TinyLoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

from evaluator.config.run_config import ArmConfig
from evaluator.errors import ModelError
from evaluator.generation.checkpoints import check_adapter, find_checkpoint
from tests.evaluator.conftest import tiny_tokenizer
from tests.evaluator.loaded_models import loaded
from tests.lora_adapters import save_lora
from tinylora import AdapterDeltas, QuantizedWeight, load_artifact, target_modules

IDS = torch.tensor([[5, 17, 80, 44, 131, 9, 3]])
LORA = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 2,
    "bias": "none",
    "target_modules": [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")],
}


def arm(kind, model, **more):
    return ArmConfig(name=kind, kind=kind, model=str(model), **more)


def logits(config, factors, dtype="float32"):
    with loaded(config, factors, dtype) as model, torch.inference_mode():
        return model.model(input_ids=IDS).logits


@pytest.fixture(scope="session")
def four_bit(chat_base, tmp_path_factory):
    """``chat_base`` as a bitsandbytes checkpoint: what an export with a zero delta is."""
    directory = tmp_path_factory.mktemp("four-bit")
    shutil.copytree(chat_base, directory, dirs_exist_ok=True)
    tensors = load_file(chat_base / "model.safetensors")
    for name in [n for n in tensors if n.endswith("_proj.weight")]:
        tensors.update(QuantizedWeight.quantize(tensors.pop(name)).to_tensors(name))
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((chat_base / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "float16",
        "bnb_4bit_quant_storage": "uint8",
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="session")
def embedded(four_bit, chat_artifact, tmp_path_factory):
    """The 4-bit base with the artifact's delta as an embedded LoRA."""
    directory = tmp_path_factory.mktemp("embedded")
    shutil.copytree(four_bit, directory, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(four_bit, dtype=torch.bfloat16)
    modules = target_modules(model)
    deltas = AdapterDeltas(load_artifact(chat_artifact), [name for name, _ in modules])
    tensors = {}
    for name, module in modules:
        delta = deltas.delta(name, QuantizedWeight.from_module(module, name))
        tensors[f"base_model.model.{name}.lora_A.weight"] = delta.right.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = delta.left.contiguous()
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    (directory / "adapter_config.json").write_text(
        json.dumps({**LORA, "base_model_name_or_path": str(directory)})
    )
    return directory


def test_quantizing_while_loading_equals_the_stored_4_bit_checkpoint(chat_base, four_bit, tmp_path):
    loaded = logits(arm("base", chat_base, load="nf4"), tmp_path)
    stored = logits(arm("merged", four_bit), tmp_path)
    assert torch.equal(loaded, stored)


def test_an_embedded_adapter_equals_the_restored_model_to_rounding(
    chat_base, embedded, chat_artifact, tmp_path
):
    base = logits(arm("base", chat_base, load="nf4"), tmp_path)
    restored = logits(arm("restored", chat_base, load="nf4", artifact=chat_artifact), tmp_path)
    merged = logits(arm("merged", embedded), tmp_path)
    assert (restored - base).abs().max() > 0.5
    effect = (restored - base).abs().max()
    assert effect > 0.5
    # An adapter rounded to float16, as PEFT would use it, is off by 2e-4 of the effect.
    assert (merged - restored).abs().max() < 2e-5 * effect


@pytest.mark.parametrize("load", ["auto", "nf4"])
def test_a_restored_lora_adapter(chat_base, tmp_path, load):
    adapter, model = save_lora(tmp_path / "adapter", chat_base, rank_pattern={"k_proj": 2})
    restored = arm("restored", chat_base, load=load, artifact=adapter)
    check_adapter(restored, find_checkpoint(restored))
    found = logits(restored, tmp_path)
    change = (found - logits(arm("base", chat_base, load=load), tmp_path)).norm()
    assert change > 0.5
    if load == "auto":
        with torch.inference_mode():
            theirs = model(input_ids=IDS).logits
        assert (found - theirs).norm() < 1e-5 * change


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # from peft
@pytest.mark.parametrize("load", ["auto", "nf4"])
def test_a_restored_peft_adapter(chat_base, tmp_path, load):
    adapter, config = tmp_path / "adapter", TinyLoraConfig(r=2, u=4, weight_tying=0.5)
    model = AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.float32)
    model = get_peft_model(model, config)
    for vector in model.base_model.tinylora_v["default"].values():
        vector.data.copy_(torch.linspace(-0.05, 0.08, 4))
    model.save_pretrained(adapter)
    restored = arm("restored", chat_base, load=load, artifact=adapter)
    base = logits(arm("base", chat_base, load=load), tmp_path)
    found = logits(restored, tmp_path)
    with torch.inference_mode():
        theirs = model(input_ids=IDS).logits
    change = (found - base).norm()
    assert change > 0.5
    if load == "auto":
        assert (found - theirs).norm() < 1e-5 * change
    checkpoint = find_checkpoint(restored)
    extra = sum(path.stat().st_size for path in adapter.glob("adapter_*"))
    plain = find_checkpoint(arm("base", chat_base))
    assert checkpoint.facts.weight_bytes == plain.facts.weight_bytes + extra
    (adapter / "README.md").write_text("not what decides")
    assert find_checkpoint(restored).facts.artifact_digest == checkpoint.facts.artifact_digest
    (adapter / "adapter_config.json").write_text("{}")
    assert find_checkpoint(restored).facts.artifact_digest != checkpoint.facts.artifact_digest
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match=r"adapter_config\.json is missing"):
        find_checkpoint(restored)


def test_float32_arithmetic_on_stored_values(chat_base, tmp_path):
    """Against a model that was dequantized by hand and computes in float32 from the start."""
    config = arm("base", chat_base, load="nf4")
    reference = AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.float32)
    for name, module in target_modules(reference):
        weight = module.weight.detach().to(torch.bfloat16)
        stored = QuantizedWeight.quantize(weight)
        values = stored.codes().long()
        scales = stored.block_absmax().repeat_interleave(stored.blocksize)[: values.numel()]
        module.weight.data = (stored.code[values] * scales).view(weight.shape)
        assert module.weight.dtype is torch.float32, name
    with torch.inference_mode():
        expected = reference(input_ids=IDS).logits
    assert (logits(config, tmp_path) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compute_dtype_reaches_every_layer(chat_base, four_bit, tmp_path, dtype):
    for config in (arm("base", chat_base), arm("merged", four_bit)):
        with loaded(config, tmp_path, dtype) as opened:
            model, wanted = opened.model, getattr(torch, dtype)
            floating = [p for p in model.parameters() if p.is_floating_point()]
            assert {p.dtype for p in floating} == {wanted}
            layers = [m for m in model.modules() if isinstance(m, Linear4bit)]
            assert {m.compute_dtype for m in layers} <= {wanted}
            assert {m.weight.quant_state.dtype for m in layers} <= {torch.bfloat16}
            assert {b.dtype for b in model.buffers()} == {torch.float32}  # rotary frequencies
            assert not model.training


def copied(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "copy")


def test_a_constant_of_gemma_is_the_same_in_every_arm(tmp_path):
    """The factor of its embeddings, √48 here, is stored nowhere and made in the load's dtype."""
    config = Gemma3TextConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=24,
        vocab_size=160,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gemma3ForCausalLM(config).to(torch.bfloat16)
    found = {}
    for stored in (torch.bfloat16, torch.float32):  # of equal values
        directory = tmp_path / str(stored)
        model.to(stored).save_pretrained(directory)
        tiny_tokenizer().save_pretrained(directory)
        found[stored] = logits(arm("merged", directory), tmp_path)
    assert torch.equal(*found.values())
    exact = AutoModelForCausalLM.from_pretrained(tmp_path / "torch.float32", dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(found[torch.float32], exact.eval()(input_ids=IDS).logits)


def test_a_missing_tensor_is_refused(chat_base, tmp_path):
    directory = copied(chat_base, tmp_path)
    tensors = load_file(directory / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks.*layers\.1\.mlp\.up_proj\.weight"):
        logits(arm("merged", directory), tmp_path)


@pytest.mark.parametrize(
    "name", ["model.layers.0.mlp.up_proj.lora_A.weight", "model.layers.0.mlp.up_proj.U"]
)
def test_a_checkpoint_with_an_unmerged_adapter_is_refused(chat_base, tmp_path, name):
    directory = copied(chat_base, tmp_path)
    tensors = load_file(directory / "model.safetensors") | {name: torch.ones(2, 4)}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"not merged .{name}.*the base alone"):
        logits(arm("merged", directory), tmp_path)


def test_other_unused_tensors_are_named(chat_base, tmp_path, caplog):
    directory = copied(chat_base, tmp_path)
    tensors = load_file(directory / "model.safetensors") | {"model.extra.weight": torch.ones(2)}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    logits(arm("merged", directory), tmp_path)
    assert "1 tensors are not used by the model: model.extra.weight" in caplog.text


def test_an_embedded_adapter_without_peft_is_refused(embedded, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "peft" else find(name)
    )
    with pytest.raises(ModelError, match="peft is not installed"):
        logits(arm("merged", embedded), tmp_path)


@pytest.mark.parametrize(("keep", "message"), [(False, "lacks.*lora_"), (True, "did not attach")])
def test_adapter_tensors_that_attach_to_nothing_are_refused(embedded, tmp_path, keep, message):
    directory = copied(embedded, tmp_path)
    adapter = load_file(directory / "adapter_model.safetensors")
    renamed = {name.replace("layers.1", "layers.7"): t.clone() for name, t in adapter.items()}
    tensors = {**adapter, **renamed} if keep else renamed
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=message):
        logits(arm("merged", directory), tmp_path)


def test_a_base_arm_with_an_adapter_is_refused(embedded):
    with pytest.raises(ModelError, match="embeds an adapter"):
        find_checkpoint(arm("base", embedded))


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 0},
        {"max_position_embeddings": "x", "vocab_size": [1]},
        {"quantization_config": {"quant_method": "bitsandbytes", "llm_int8_skip_modules": [7]}},
    ],
)
def test_whatever_a_malformed_config_leads_to_is_one_error(
    chat_base, chat_artifact, tmp_path, change
):
    directory = copied(chat_base, tmp_path)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | change))
    restored = arm("restored", directory, artifact=chat_artifact)
    with pytest.raises(ModelError, match="arm "):
        check_adapter(restored, find_checkpoint(restored))
        logits(restored, tmp_path)
