"""Whether a loaded model is what its checkpoint says, and what it computes in."""

import logging
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from evaluator.config.run_config import ArmConfig
from evaluator.errors import ModelError
from evaluator.generation.checkpoints import Checkpoint
from tinylora import AdaptedLinear, TinyLoRAGlobalParams
from tinylora.models.embedded_adapter import ADAPTER_CONFIG, adapter_tensors
from tinylora.models.float32_view import holds_codes

_log = logging.getLogger(__name__)


def check_complete(arm: ArmConfig, directory: Path, info: dict[str, Any]) -> None:
    """Refuse tensors that the checkpoint lacks, and an adapter in it that was not merged."""
    unused = sorted(str(name) for name in info["unexpected_keys"])
    embeds = (directory / ADAPTER_CONFIG).exists()  # checked when it is attached
    if (found := adapter_tensors(unused)) and not embeds:
        raise ModelError(
            f"arm {arm.name}: {directory}: would run as the base alone: it holds {len(found)} "
            f"tensors of an adapter that was not merged ({', '.join(found[:3])}, ...). Merge it, "
            "or give the base and the adapter"
        )
    if unused:
        _log.warning(
            "arm %s: %s: %d tensors are not used by the model: %s",
            arm.name, directory, len(unused), ", ".join(unused[:5]),
        )  # fmt: skip
    for what, meaning in (
        ("missing_keys", "the checkpoint lacks, they would be drawn at random"),
        ("mismatched_keys", "of another shape than the configuration says"),
    ):
        names = sorted(str(name) for name in info[what])
        if names:
            raise ModelError(
                f"arm {arm.name}: {directory}: {len(names)} tensors {meaning}: "
                f"{', '.join(names[:5])}; export or download it again"
            )


def check_quantized(arm: ArmConfig, checkpoint: Checkpoint, model: PreTrainedModel) -> None:
    """Check that what was to be quantized is."""
    if arm.load == "nf4" or checkpoint.four_bit:
        if not any(isinstance(module, Linear4bit) for module in model.modules()):
            raise ModelError(
                f"arm {arm.name}: {checkpoint.directory} was to load in 4 bits, no layer of it is"
            )
    elif checkpoint.quantization and getattr(model, "hf_quantizer", None) is None:
        # transformers forgets the quantizer of a model that it dequantized while loading
        if checkpoint.quantization not in AUTO_QUANTIZER_MAPPING:
            raise ModelError(
                f"arm {arm.name}: {checkpoint.directory} loaded as if it were not quantized: this "
                f"transformers does not know its method, {checkpoint.quantization}"
            )
        _log.info("arm %s: %s is dequantized while loading", arm.name, checkpoint.quantization)


class Linear4bitAsTrained(Linear4bit):  # type: ignore[misc]
    """A 4-bit layer that computes in float32 on the weights that training had.

    Those are rounded to the dtype of the quantization state (bfloat16), as dense exports have them;
    bitsandbytes leaves the rounding out in float32, a change larger than a small adapter's.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``x Wᵀ + b`` of ``[..., in]``, in the dtype of ``x``."""
        weight = dequantize_4bit(self.weight.data, self.weight.quant_state)
        return linear(x, weight.to(x.dtype), self.bias)


def compute_in(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Let a causal model, dense, quantized or with an adapter, compute in ``dtype``, in place.

    Parameters are cast, but for codes and the adapter's own modules, which the restore sets;
    buffers are cast only to a wider type (rotary frequencies stay float32).
    """
    quantized = getattr(model, "hf_quantizer", None) is not None
    for module in model.modules():
        if isinstance(module, AdaptedLinear | TinyLoRAGlobalParams):
            continue
        if isinstance(module, Linear4bit):
            module.compute_dtype = dtype
            module.compute_type_is_set = True
            if dtype is torch.float32:
                module.__class__ = Linear4bitAsTrained
            # On CPUs with AVX512-BF16 bitsandbytes would compute in bfloat16 whatever is asked.
            module.support_avx512bf16_for_cpu = dtype is torch.bfloat16 and (
                module.support_avx512bf16_for_cpu
            )
        elif quantized and holds_codes(module):
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
