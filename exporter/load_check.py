"""Loads an export with plain transformers, and compares its logits with the restored model's.

Both models are compared as exact views of what their files say: before any forward pass every 4-bit
layer is replaced by a dense float32 one with the same values (rounded to the checkpoint's dtype),
and everything else is raised to float32. What is left is the difference of the weights, not of two
kernels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from exporter.checkpoint import open_checkpoint
from exporter.formats import Format
from tinylora import DeltaOptions, QuantizedWeight, load_adapter, restore

_TOKENS = 64


@dataclass(frozen=True)
class LogitComparison:
    """Logits of an export against those of the restored model, on fixed tokens.

    Attributes:
        largest: Largest absolute difference.
        residual: ‖export − restored‖ / ‖base − restored‖: 0 is perfect, 1 means that the delta is
            gone; None where the adapter changes no logit.
        change: ‖base − restored‖ / ‖base‖, how much the adapter changes at all.
    """

    largest: float
    residual: float | None
    change: float


def check_load(directory: Path, layout: Format) -> tuple[str, ...]:
    """Load an export with plain ``from_pretrained`` and run it once.

    Args:
        directory: The export.
        layout: Its format.

    Returns:
        What is wrong, in words.
    """
    model = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True)
    problems = []
    classes = {type(module).__name__ for module in model.modules()}
    if layout.weights == "4bit" and "Linear4bit" not in classes:
        problems.append("no layer came up in 4 bits")
    if layout.weights == "dense":
        found = {p.dtype for p in model.parameters()}
        if found != {layout.dtype}:
            problems.append(f"parameters came up as {sorted(map(str, found))}")
    if layout.adapter and not getattr(model, "peft_config", None):
        problems.append("the adapter was not attached; is peft installed?")
    if not bool(torch.isfinite(_logits(model)).all()):
        problems.append("logits are not finite")
    return tuple(problems)


def compare_logits(
    directory: Path, base: Path, artifact: Path, options: Mapping[str, Any]
) -> LogitComparison:
    """Compare an export with ``tinylora.restore`` on its base.

    Args:
        directory: The export.
        base: The base checkpoint that it was made from.
        artifact: The artifact that it was made from.
        options: The export's resolved options, from its manifest.
    """
    exported = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True)
    of_export = _logits(in_float32(exported))
    del exported
    model = load_base(base)
    delta_options = DeltaOptions(
        **{
            name: options[name]
            for name in ("formula", "rng", "svd", "numerics", "placement")
            if options[name] is not None  # a PEFT adapter leaves no choice
        }
    )
    restoration = restore(model, load_adapter(artifact), delta_options)
    of_restored = _logits(in_float32(model))
    restoration.remove()
    of_base = _logits(model)
    change = float((of_base - of_restored).norm())
    return LogitComparison(
        largest=float((of_export - of_restored).abs().max()),
        residual=float((of_export - of_restored).norm()) / change if change > 0 else None,
        change=change / float(of_base.norm()),
    )


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


def in_float32(model: nn.Module) -> nn.Module:
    """Replace 4-bit layers by dense ones of the same values and raise all else, in place."""
    for name, module in list(model.named_modules()):
        if hasattr(getattr(module, "weight", None), "quant_state") and isinstance(
            module, nn.Linear
        ):
            model.set_submodule(name, _dense(module, name))
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
    return model


def _dense(module: nn.Linear, name: str) -> nn.Linear:
    weight = QuantizedWeight.from_module(module, name).dequantize().float()
    dense = nn.Linear(weight.shape[1], weight.shape[0], module.bias is not None)
    dense.weight = nn.Parameter(weight, requires_grad=False)
    if module.bias is not None:
        dense.bias = nn.Parameter(module.bias.detach().float(), requires_grad=False)
    return dense


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    model.eval()
    size = model.get_input_embeddings().num_embeddings
    tokens = (torch.arange(_TOKENS) * 7919 % size).unsqueeze(0)
    logits: Tensor = model(tokens).logits
    return logits.float()
