"""Logits of dense float64 models, built from files without the packages under test."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from tests.exporter.conftest import tensors_of


def packed_in(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the 4-bit weights."""
    return [name.partition(".quant_state.")[0] for name in tensors if ".quant_state." in name]


def weights_of(directory: Path) -> dict[str, Tensor]:
    """Every parameter of a checkpoint as stored; 4-bit ones as bitsandbytes reads them."""
    tensors = tensors_of(directory)
    for name in packed_in(tensors):
        parts = {key: tensors.pop(key) for key in list(tensors) if key.startswith(f"{name}.")}
        state = QuantState.from_dict(parts, device=torch.device("cpu"))
        tensors[name] = dequantize_4bit(tensors[name], state)
    return tensors


def dense_logits(
    directory: Path, weights: Mapping[str, Tensor], texts: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Logits of the directory's architecture with some weights, ``[positions, vocabulary]``."""
    config = AutoConfig.from_pretrained(directory)
    config.__dict__.pop("quantization_config", None)
    # made in float32: Gemma keeps a constant in the dtype that the model is made in
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).double().eval()
    state = {name: tensor.double() for name, tensor in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected
    model.tie_weights()
    with torch.no_grad():
        return [model(torch.tensor([list(text)])).logits[0] for text in texts]


def restored_weights(found: Mapping[str, Mapping[str, Tensor]], size: float) -> dict[str, Tensor]:
    """The base as training saw it plus ``size`` times the delta, from conftest's references."""
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in found["tensors"].items()}
    for name, weight in found["seen"].items():
        weights[name] = weight + size * found["delta"][name]
    return weights


def distance(one: Sequence[Tensor], two: Sequence[Tensor]) -> float:
    return float(torch.cat([(a - b).flatten() for a, b in zip(one, two, strict=True)]).norm())
