"""An adapter that lies in a checkpoint's own directory, or that somebody left in its weights.

The first, transformers attaches on load. PEFT rounds it to the compute dtype of the 4-bit layers
below it, by default float16: an error of some 2e-4 of the delta. Here it gets the values of its
file back. With the second a checkpoint loads as the base alone: transformers ignores names that a
model does not have.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from tinylora.errors import RestoreError

ADAPTER_CONFIG = "adapter_config.json"
# As the trainers' modules and PEFT's layers name their tensors.
_ADAPTER_TENSOR = re.compile(
    r"\.(U|S|V|Vh|P|v|global_v)$"
    r"|(^|\.)(tiny_lora_params|global_params|tinylora_\w+|lora_\w+|ia3_l|hada_\w+|lokr_\w+|oft_\w+|"
    r"boft_\w+|vera_lambda_\w+|prompt_encoder|modules_to_save|base_layer|base_model|W_base)(\.|$)"
)


def attach_as_stored(model: Any, directory: Path) -> None:
    """Set an embedded adapter to the values of its file; nothing where there is none.

    Raises:
        RestoreError: A tensor of the file was not attached, or with other values.
    """
    if not (directory / ADAPTER_CONFIG).exists():
        return
    own = model.named_parameters()
    attached = {_plain(name): tensor for name, tensor in own if ".lora_" in name}
    with safe_open(directory / "adapter_model.safetensors", framework="pt") as file:
        stored = {_plain(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    loose = [
        name
        for name, tensor in stored.items()
        if name not in attached
        or not torch.equal(attached[name].detach().cpu(), tensor.to(attached[name].dtype))
    ]
    if loose or not stored:
        raise RestoreError(
            f"{directory} embeds an adapter of which {len(loose)} of {len(stored)} tensors did not "
            f"attach: {', '.join(loose[:3])}; check the versions of peft and transformers"
        )
    for name, tensor in stored.items():
        attached[name].data = tensor.to(attached[name].device)


def _plain(name: str) -> str:
    """Name of an adapter tensor without what PEFT puts around it in files and modules."""
    return name.removeprefix("base_model.model.").replace(".default.", ".")


def adapter_tensors(names: Iterable[str]) -> list[str]:
    """Those of some names that only an adapter has, sorted.

    >>> adapter_tensors(["model.layers.0.self_attn.q_proj.lora_A.weight", "model.extra.weight"])
    ['model.layers.0.self_attn.q_proj.lora_A.weight']
    """
    return sorted(name for name in names if _ADAPTER_TENSOR.search(name))
