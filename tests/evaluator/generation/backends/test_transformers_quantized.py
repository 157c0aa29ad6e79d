"""Checkpoints of other quantizations, made by their own libraries, as arms of a run."""

import json
import shutil

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from evaluator.config.run_config import ArmConfig
from evaluator.errors import ModelError
from evaluator.store.records import GenerationRecord, read
from tests.evaluator.loaded_models import loaded
from tests.evaluator.whole_runs import make, merged

IDS = torch.tensor([[5, 17, 80, 44, 131, 9, 3]])


def int8(base, directory):
    """LLM.int8 of bitsandbytes; returns the values that its codes stand for, by name."""
    settings = {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    settings |= {"dtype": torch.bfloat16, "device_map": {"": "cpu"}}
    model = AutoModelForCausalLM.from_pretrained(base, **settings)
    model.save_pretrained(directory)
    return {
        f"{name}.weight": module.weight.data.float() * module.weight.SCB[:, None] / 127
        for name, module in model.named_modules()
        if isinstance(module, Linear8bitLt)
    }


def compressed_int8(base, directory):
    """W8A16 of compressed-tensors: one scale a row; likewise."""
    quantization = pytest.importorskip("compressed_tensors.quantization")
    compressors = pytest.importorskip("compressed_tensors.compressors")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    how = quantization.QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="channel")
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=how)
    config = quantization.QuantizationConfig(
        config_groups={"all": scheme}, ignore=["lm_head"], format="pack-quantized"
    )
    quantization.apply_quantization_config(model, config)
    values = {}
    for name, module in model.named_modules():
        if hasattr(module, "quantization_scheme"):
            weight = module.weight.data.float()
            scale = (weight.abs().amax(1, keepdim=True) / 127).to(torch.bfloat16)
            module.weight_scale.data = scale
            codes = (module.weight.data / scale).round().clamp(-128, 127)
            values[f"{name}.weight"] = codes.float() * scale.float()
    compressor = compressors.ModelCompressor.from_pretrained_model(
        model, quantization_format="pack-quantized"
    )
    compressor.compress_model(model)
    model.save_pretrained(directory)
    compressor.update_config(directory)
    return values


@pytest.fixture(scope="module")
def quantized(chat_base, tmp_path_factory):
    """``quantized(make)``: a checkpoint of ``chat_base`` and the values of its codes."""
    made = {}

    def checkpoint(make):
        if make not in made:
            directory = tmp_path_factory.mktemp(make.__name__)
            shutil.copytree(chat_base, directory, dirs_exist_ok=True)
            made[make] = directory, make(chat_base, directory)
        return made[make]

    return checkpoint


def arm(directory, **more):
    return ArmConfig(name="q", kind="merged", model=str(directory), **more)


@pytest.mark.parametrize(("quantize", "tolerance"), [(int8, 0.05), (compressed_int8, 1e-4)])
def test_a_quantized_checkpoint_computes_with_its_own_values(
    quantized, chat_base, tmp_path, quantize, tolerance
):
    """Beside a dense float32 model; int8 rounds activations too."""
    directory, values = quantized(quantize)
    reference = AutoModelForCausalLM.from_pretrained(chat_base, dtype=torch.float32)
    plain = reference(input_ids=IDS).logits.detach()
    reference.load_state_dict(values, strict=False)
    with loaded(arm(directory), tmp_path) as model, torch.inference_mode():
        found = model.model(input_ids=IDS).logits
        expected = reference(input_ids=IDS).logits
    assert found.dtype is torch.float32
    assert not torch.equal(found, plain)
    assert (found - expected).norm() < tolerance * expected.norm()


def test_quantized_checkpoints_are_arms_of_a_run(quantized, config_of, chat_base):
    arms = [{"name": "base", "kind": "base", "model": str(chat_base)}]
    for quantize in (int8, compressed_int8):
        directory, _ = quantized(quantize)
        arms.append(merged(quantize.__name__, directory))
    out, results = make(config_of(arms=arms, decoding={"max_new_tokens": 80, "batch_size": 6}))
    made = read(out / "generations.jsonl", GenerationRecord.from_row).values()
    for name in ("int8", "compressed_int8"):
        own = [record for record in made if record.arm == name]
        assert sum("printf" in record.text for record in own) > len(own) / 2
    assert len(results.summary.arms) == 3


def refused(directory, words, **more):
    with pytest.raises(ModelError, match=words):
        loaded(arm(directory, **more), directory).__enter__()


def test_quantizations_that_cannot_be_loaded_are_refused(quantized, chat_base, tmp_path):
    copy = shutil.copytree(chat_base, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    for settings, words in (
        ({"quant_method": "homemade"}, "homemade"),  # unknown to transformers
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "with gptq: a library that this"),
    ):
        (copy / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
        refused(copy, words)
    refused(quantized(int8)[0], r"quantized already \(bitsandbytes\)", load="nf4")
