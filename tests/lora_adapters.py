"""LoRA adapters that PEFT itself makes, with random numbers in both factors."""

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

SETTINGS = {
    "r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "k_proj", "down_proj"],
    "task_type": "CAUSAL_LM",
}  # fmt: skip
PATTERNS = {
    "rank_pattern": {"k_proj": 2, "layers.1.mlp.down_proj": 7},
    "alpha_pattern": {r"^model\.layers\.0\.self_attn\.q_proj": 32, "k_proj": 1.5},
}


def peft_lora(base, size=0.05, **changes):
    """A float32 base with a LoRA whose ΔW has entries of about ``size``."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(**(SETTINGS | changes)))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * size**0.5)
    return model.eval()


def pefts_deltas(model):
    """The delta of each module that PEFT adapts, by its own ``get_delta_weight``."""
    layers = model.base_model.model.named_modules()
    return {
        name: layer.get_delta_weight("default").detach().double()
        for name, layer in layers
        if hasattr(layer, "get_delta_weight")
    }


def lora_deltas(directory):
    """B · A of each module of a LoRA's directory, float64."""
    adapter = load_file(directory / "adapter_model.safetensors")
    names = [key[17:-14] for key in adapter if key.endswith(".lora_A.weight")]
    pairs = {n: [adapter[f"base_model.model.{n}.lora_{x}.weight"] for x in "BA"] for n in names}
    return {name: b.double() @ a.double() for name, (b, a) in pairs.items()}


def save_lora(directory, base, size=0.05, **changes):
    """PEFT's directory of such an adapter, and its model."""
    model = peft_lora(base, size, **changes)
    # otherwise PEFT would look for the base on a hub
    model.peft_config["default"].base_model_name_or_path = "someone/tiny-qwen"
    model.save_pretrained(directory, save_embedding_layers=False)
    return directory, model
