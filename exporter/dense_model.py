"""Models as exact float32 views of what their files say.

Every 4-bit layer is replaced by a dense float32 one with the same values (rounded to the
checkpoint's dtype) before any forward pass, and everything else is raised to float32. What differs
between two such models is their weights, not their kernels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from exporter.checkpoint import open_checkpoint
from exporter.prompts import TokenPrompt
from tinylora import QuantizedWeight


def load_exact(path: Path) -> Any:
    """An export, or any checkpoint, loaded as its user would, in float32."""
    return in_float32(AutoModelForCausalLM.from_pretrained(path, local_files_only=True)).eval()


def load_base(path: Path) -> Any:
    """Load a base as the trainer did: bf16, quantized to nf4 unless it is 4-bit already."""
    if open_checkpoint(path).is_4bit:  # even quantization_config=None would undo its own
        return AutoModelForCausalLM.from_pretrained(path, local_files_only=True, device_map="cpu")
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
    )
    return AutoModelForCausalLM.from_pretrained(
        path,
        local_files_only=True,
        dtype=torch.bfloat16,
        quantization_config=settings,
        device_map="cpu",
    )


def in_float32(model: Any) -> Any:
    """Replace 4-bit layers by dense ones of the same values and raise all else, in place."""
    for name, module in list(model.named_modules()):
        if hasattr(getattr(module, "weight", None), "quant_state") and isinstance(
            module, nn.Linear
        ):
            model.set_submodule(name, _dense(module, name))
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
    for module in model.modules():
        if hasattr(module, "scalar_embed_scale"):  # Gemma's constant, rounded when it was loaded
            module.embed_scale.fill_(module.scalar_embed_scale)
    return model


@torch.no_grad()
def logits_of(model: Any, prompts: Sequence[TokenPrompt]) -> list[Tensor]:
    """Logits of the compared positions, from one right-padded batch.

    Args:
        model: A causal model.
        prompts: The texts of the batch.

    Returns:
        For each text float32 ``[scored, vocabulary]``.
    """
    width = max(len(prompt.token_ids) for prompt in prompts)
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt.token_ids)] = torch.tensor(prompt.token_ids)
        mask[row, : len(prompt.token_ids)] = 1
    logits = model(ids, attention_mask=mask, use_cache=False).logits.float()
    return [logits[row, prompt.first : len(prompt.token_ids)] for row, prompt in enumerate(prompts)]


@torch.no_grad()
def head_inputs(model: Any, prompts: tuple[TokenPrompt, ...]) -> Tensor:
    """Last hidden states, as the output layer reads them, float32 ``[tokens, hidden]``.

    Only the compared positions of each text.
    """
    seen: list[Tensor] = []

    def remember(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0][0])

    handle = model.get_output_embeddings().register_forward_pre_hook(remember)
    try:
        for prompt in prompts:
            model(torch.tensor([prompt.token_ids]), use_cache=False)
            seen[-1] = seen[-1][prompt.first :].float().clone()
    finally:
        handle.remove()
    return torch.cat(seen)


def _dense(module: nn.Linear, name: str) -> nn.Linear:
    weight = QuantizedWeight.from_module(module, name).dequantize().float()
    dense = nn.Linear(weight.shape[1], weight.shape[0], module.bias is not None)
    dense.weight = nn.Parameter(weight, requires_grad=False)
    if module.bias is not None:
        dense.bias = nn.Parameter(module.bias.detach().float(), requires_grad=False)
    return dense
