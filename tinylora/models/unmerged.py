"""Tensors of an adapter that somebody left in a checkpoint without merging it.

Such a checkpoint loads as the base alone: transformers ignores names that a model does not have.
"""

import re
from collections.abc import Iterable

# As the trainers' modules and PEFT's layers name their tensors.
_ADAPTER_TENSOR = re.compile(
    r"\.(U|S|V|Vh|P|v|global_v)$"
    r"|(^|\.)(tiny_lora_params|global_params|tinylora_\w+|lora_\w+|ia3_l|hada_\w+|lokr_\w+|oft_\w+|"
    r"boft_\w+|vera_lambda_\w+|prompt_encoder|modules_to_save|base_layer|base_model|W_base)(\.|$)"
)


def adapter_tensors(names: Iterable[str]) -> list[str]:
    """Those of some names that only an adapter has, sorted.

    >>> adapter_tensors(["model.layers.0.self_attn.q_proj.lora_A.weight", "model.extra.weight"])
    ['model.layers.0.self_attn.q_proj.lora_A.weight']
    """
    return sorted(name for name in names if _ADAPTER_TENSOR.search(name))
