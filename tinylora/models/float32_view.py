"""A loaded model as the exact float32 function that its files say.

Every 4-bit layer becomes a dense float32 one of the same values, rounded to the checkpoint's dtype
as in training, and all else is raised to float32: two such models differ in their weights, not in
their kernels. bitsandbytes itself, asked to compute in float32, leaves that rounding out.
"""

from typing import Any

import torch
from torch import nn

from tinylora.weights.quantized_weight import QuantizedWeight


def in_float32(model: Any) -> Any:
    """Replace 4-bit layers by dense ones of the same values and raise all else, in place.

    Layers that hold other codes (8 bit, GPTQ, ...) stay as their library made them.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and hasattr(module.weight, "quant_state"):
            model.set_submodule(name, _dense(module, name))
    for module in model.modules():
        if holds_codes(module):
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data = tensor.data.float()
        if hasattr(module, "scalar_embed_scale"):  # Gemma's constant, rounded when it was loaded
            module.embed_scale.fill_(module.scalar_embed_scale)
    return model


def holds_codes(module: nn.Module) -> bool:
    """Whether a layer's own tensors are codes: integers, or floats of one byte."""
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return any(not t.is_floating_point() or t.itemsize == 1 for t in own if t.ndim > 1)


def _dense(module: nn.Linear, name: str) -> nn.Linear:
    weight = QuantizedWeight.from_module(module, name).dequantize().float()
    height, width = weight.shape
    dense = nn.Linear(width, height, module.bias is not None, dtype=torch.float32)
    dense.weight = nn.Parameter(weight, requires_grad=False)
    if module.bias is not None:
        dense.bias = nn.Parameter(module.bias.detach().float(), requires_grad=False)
    return dense
