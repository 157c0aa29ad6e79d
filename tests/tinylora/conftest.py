"""Adapters as inputs: artifacts of a size, and those that PEFT itself made."""

import pytest

TARGETS = ["q_proj", "k_proj", "down_proj"]


def plain(directory, dtype="float32"):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)


def four_bit(directory):
    """The base as the trainer loads it."""
    from transformers import AutoModelForCausalLM

    from tinylora.models.pretrained import trainer_nf4

    return AutoModelForCausalLM.from_pretrained(
        directory, dtype="bfloat16", quantization_config=trainer_nf4()
    )


def as_bitsandbytes(weight, quant_type="nf4", blocksize=64, double_quant=True):
    """A weight in 4 bits, once every tensor is that of bitsandbytes; and its values by theirs."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    from tinylora import QuantizedWeight

    ours = QuantizedWeight.quantize(
        weight, quant_type=quant_type, blocksize=blocksize, double_quant=double_quant
    )
    data, state = quantize_4bit(
        weight, blocksize=blocksize, quant_type=quant_type, compress_statistics=double_quant
    )
    theirs = {"w": data} | {f"w.{k}": v for k, v in state.as_dict(packed=True).items()}
    stored = ours.to_tensors("w")
    assert stored.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert stored[name].dtype == tensor.dtype and torch.equal(stored[name], tensor), name
    return ours, dequantize_4bit(data, state)


def save_vector(file, u=32, **changes):
    """An artifact for ``tiny_base`` of a random vector with entries of about 0.01."""
    import torch

    from tinylora import save_artifact

    generator = torch.Generator().manual_seed(3)
    vector = torch.randn(u, generator=generator, dtype=torch.float32) * 1e-2
    fields = {"global_v": vector, "rank": 2, "seed": 42, "model_id": "tiny", "formula": "full"}
    save_artifact(file, **(fields | {"total_replaced_layers": 14} | changes))
    return file


@pytest.fixture
def artifact(tmp_path):
    from tinylora import load_artifact

    return load_artifact(save_vector(tmp_path / "tiny_lora_v.pt"))


def changed_adapter(directory, config=None, tensors=None):
    """Change a PEFT adapter's fields and tensors, None: leave it out, and read it."""
    import json

    from safetensors.torch import load_file, save_file

    from tinylora import load_adapter

    file, weights = directory / "adapter_config.json", directory / "adapter_model.safetensors"
    file.write_text(json.dumps(json.loads(file.read_text()) | (config or {})))
    found = load_file(weights) | (tensors or {})
    save_file({name: tensor for name, tensor in found.items() if tensor is not None}, weights)
    return load_adapter(directory)


def peft_model(base, dtype="float32", size=0.02, **changes):
    import torch
    from peft import TinyLoraConfig, get_peft_model

    settings = {
        "r": 2, "u": 5, "weight_tying": 0.5, "projection_seed": 11, "target_modules": TARGETS,
        "task_type": "CAUSAL_LM",
    }  # fmt: skip
    model = get_peft_model(plain(base, dtype), TinyLoraConfig(**(settings | changes)))
    generator = torch.Generator().manual_seed(3)
    for vector in model.base_model.tinylora_v["default"].values():
        vector.data.copy_(torch.randn(vector.shape, generator=generator) * size)
    return model.eval()


@pytest.fixture
def saved(tiny_base, tmp_path):
    """``saved(**config) -> (directory, the PEFT model that was saved there)``."""

    def make(dtype="float32", **changes):
        model = peft_model(tiny_base, dtype, **changes)
        model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
        return tmp_path / "adapter", model

    return make
