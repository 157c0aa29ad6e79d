"""Arms on real checkpoints: dense, 4-bit, restored, embedded, and those that must be refused."""

import importlib.util
import json
import shutil
import weakref
from functools import partial

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import TinyLoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evaluator.config.run_config import ArmConfig
from evaluator.errors import ModelError
from evaluator.generation.backend import TokenText
from evaluator.generation.checkpoints import find_checkpoint
from exporter import ExportRequest, export
from tests.evaluator.loaded_models import loaded
from tests.lora_adapters import save_lora
from tinylora.models.pretrained import load_model, trainer_nf4

IDS = torch.tensor([[5, 17, 80, 44, 131, 9, 3]])


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
    options = {"quantization_config": trainer_nf4(), "dtype": torch.bfloat16}
    AutoModelForCausalLM.from_pretrained(chat_base, **options).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def embedded(chat_base, chat_artifact, tmp_path_factory):
    """The 4-bit base with the artifact's delta as an embedded LoRA."""
    out = tmp_path_factory.mktemp("exports") / "embedded"
    export(ExportRequest(base=chat_base, artifact=chat_artifact, out=out, format="nf4-embedded"))
    return out


def test_quantizing_while_loading_equals_the_stored_4_bit_checkpoint(chat_base, four_bit, tmp_path):
    loaded = logits(arm("base", chat_base, load="nf4"), tmp_path)
    stored = logits(arm("merged", four_bit), tmp_path)
    assert torch.equal(loaded, stored)


@pytest.mark.parametrize(
    ("as_stored", "remedy"), [(False, "smaller decoding.batch_size"), (True, "device: cpu")]
)
def test_too_little_memory_is_said_with_what_helps(chat_base, tmp_path, as_stored, remedy):
    with (
        pytest.raises(ModelError, match=f"arm base: cpu has no room: .*{remedy}"),
        loaded(arm("base", chat_base), tmp_path, as_stored=as_stored),
    ):
        raise torch.OutOfMemoryError


def test_the_weights_are_gone_after_the_with(chat_base, embedded, tmp_path):
    for config in (arm("base", chat_base, load="nf4"), arm("merged", embedded)):
        with loaded(config, tmp_path) as model:
            weights = [weakref.ref(weight) for weight in model.model.parameters()]
        assert model is not None  # the name outlives the with, and holds no weight
        assert not any(weight() is not None for weight in weights)


def test_an_embedded_adapter_equals_the_restored_model_to_rounding(
    chat_base, embedded, chat_artifact, tmp_path
):
    base = logits(arm("base", chat_base, load="nf4"), tmp_path)
    restored = logits(arm("restored", chat_base, load="nf4", artifact=chat_artifact), tmp_path)
    merged = logits(arm("merged", embedded), tmp_path)
    effect = (restored - base).abs().max()
    assert effect > 0.5
    # An adapter rounded to float16, as PEFT would use it, is off by 2e-4 of the effect.
    assert (merged - restored).abs().max() < 2e-5 * effect


@pytest.mark.parametrize("as_stored", [False, True])
def test_a_model_spread_over_all_devices_predicts_the_same(
    chat_base, embedded, chat_artifact, tmp_path, as_stored
):
    text = TokenText(tuple(IDS[0].tolist()), (2, 3, 4, 5))
    restored = arm("restored", chat_base, load="nf4", artifact=chat_artifact)
    for config in (restored, arm("merged", embedded), arm("merged", chat_base)):
        found = []
        for spread in (False, True):
            with loaded(config, tmp_path, as_stored=as_stored, spread=spread) as model:
                found.append(model.predict([text])[0].logits)
        assert torch.equal(*found)


def test_a_model_larger_than_all_devices_is_refused(chat_base, tmp_path, monkeypatch):
    little = partial(load_model, max_memory={"cpu": "20KB"}, offload_folder=tmp_path / "disk")
    monkeypatch.setattr("evaluator.generation.backends.transformers.load_model", little)
    with pytest.raises(ModelError, match="arm base: .* is larger than all GPUs together"):
        loaded(arm("base", chat_base), tmp_path, spread=True).__enter__()


def test_a_restored_lora_adapter(chat_base, tmp_path):
    adapter, model = save_lora(tmp_path / "adapter", chat_base, rank_pattern={"k_proj": 2})
    restored = arm("restored", chat_base, artifact=adapter)
    found = logits(restored, tmp_path)
    change = (found - logits(arm("base", chat_base), tmp_path)).norm()
    with torch.inference_mode():
        theirs = model(input_ids=IDS).logits
    assert (found - theirs).norm() < 1e-5 * change


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # from peft
def test_a_restored_peft_adapter(chat_base, tmp_path):
    adapter, config = tmp_path / "adapter", TinyLoraConfig(r=2, u=4, weight_tying=0.5)
    model = AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.float32)
    model = get_peft_model(model, config)
    for vector in model.base_model.tinylora_v["default"].values():
        vector.data.copy_(torch.linspace(-0.05, 0.08, 4))
    model.save_pretrained(adapter)
    restored = arm("restored", chat_base, artifact=adapter)
    found = logits(restored, tmp_path)
    with torch.inference_mode():
        theirs = model(input_ids=IDS).logits
    change = (found - logits(arm("base", chat_base), tmp_path)).norm()
    assert (found - theirs).norm() < 1e-5 * change
    checkpoint = find_checkpoint(restored)
    extra = sum(path.stat().st_size for path in adapter.glob("adapter_*"))
    plain = find_checkpoint(arm("base", chat_base))
    assert checkpoint.facts.weight_bytes == plain.facts.weight_bytes + extra
    (adapter / "README.md").write_text("not what decides")
    assert find_checkpoint(restored).facts.artifact_digest == checkpoint.facts.artifact_digest
    content = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(content))
    assert find_checkpoint(restored).facts.artifact_digest != checkpoint.facts.artifact_digest
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match=r"adapter_config\.json is missing"):
        find_checkpoint(restored)


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


UP = "model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        (f"{UP}.weight", None, f"lacks.*{UP}.weight"),
        (None, f"{UP}.lora_A.weight", f"the base alone.*not merged .{UP}.lora_A.weight"),
        (None, f"{UP}.U", f"the base alone.*not merged .{UP}.U"),
    ],
)
def test_missing_tensors_and_unmerged_adapters_are_refused(chat_base, tmp_path, drop, add, message):
    directory = copied(chat_base, tmp_path)
    tensors = load_file(directory / "model.safetensors") | ({add: torch.ones(2, 4)} if add else {})
    tensors.pop(drop, None)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=message):
        logits(arm("merged", directory), tmp_path)


def test_an_embedded_adapter_is_refused_without_peft_and_of_a_base(embedded, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="embeds an adapter"):
        find_checkpoint(arm("base", embedded))
    find = importlib.util.find_spec
    without = lambda name: None if name == "peft" else find(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
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
        logits(restored, tmp_path)
