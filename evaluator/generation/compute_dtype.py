"""What a loaded model computes in: the stored values stay, only the arithmetic is chosen."""

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn
from transformers import PreTrainedModel

from tinylora import AdaptedLinear, TinyLoRAGlobalParams


def compute_in(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Let a causal model, dense, quantized or with an adapter, compute in ``dtype``, in place.

    4-bit layers keep their stored tensors; other parameters are cast; buffers are cast only to a
    wider type (rotary frequencies stay float32). The adapter's own modules are left alone: their
    numerics are an option of the restore. So are layers of other quantizations.
    """
    quantized = getattr(model, "hf_quantizer", None) is not None
    for module in model.modules():
        if isinstance(module, AdaptedLinear | TinyLoRAGlobalParams):
            continue
        if isinstance(module, Linear4bit):
            module.compute_dtype = dtype
            module.compute_type_is_set = True
            # On CPUs with AVX512-BF16 bitsandbytes would compute in bfloat16 whatever is asked.
            module.support_avx512bf16_for_cpu = dtype is torch.bfloat16 and (
                module.support_avx512bf16_for_cpu
            )
        elif quantized and _holds_codes(module):
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.is_floating_point() and not isinstance(parameter, Params4bit):
                parameter.data = parameter.data.to(dtype)
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point() and buffer.itemsize < dtype.itemsize:
                setattr(module, name, buffer.to(dtype))
        if hasattr(module, "scalar_embed_scale"):
            # Gemma's constant came in the dtype of the load, which differs between arms.
            module.embed_scale = module.embed_scale.new_tensor(
                module.scalar_embed_scale, dtype=dtype
            )


def _holds_codes(module: nn.Module) -> bool:
    """Whether a layer's own tensors are codes: integers, or floats of one byte."""
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return any(not t.is_floating_point() or t.itemsize == 1 for t in own if t.ndim > 1)
