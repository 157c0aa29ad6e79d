"""What the base's ``config.json`` says about its modules, from a model on the meta device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from exporter.errors import CheckpointError
from tinylora import target_names


@dataclass(frozen=True)
class Architecture:
    """The modules and parameters that a checkpoint must have.

    Attributes:
        targets: Linear modules that the adapter changes, in the order of the random stream.
        linears: Every linear module that 4-bit loading may quantize -> ``(out, in)``.
        kept: Names of the linear modules that stay in 16 bits (``llm_int8_skip_modules``).
        parameters: Parameter and persistent buffer name -> shape, tied ones without their alias.
        same_leaf: Whether no module but a target ends in a target's last name.
    """

    targets: tuple[str, ...]
    linears: Mapping[str, tuple[int, int]]
    kept: tuple[str, ...]
    parameters: Mapping[str, tuple[int, ...]]
    same_leaf: bool


def read_architecture(
    path: Path,
    config: Mapping[str, Any],
    find_targets: Callable[[nn.Module], Sequence[str]] = target_names,
) -> Architecture:
    """Build the model on the meta device and read off its modules.

    Args:
        path: Directory of the checkpoint.
        config: Its config.json.
        find_targets: Gives the names of the modules that the adapter changes, in its order.

    Raises:
        CheckpointError: transformers has no such architecture, or it needs code from elsewhere.
    """
    model = _meta_model(path)
    names = find_targets(model)
    skip = (config.get("quantization_config") or {}).get("llm_int8_skip_modules")
    patterns = _patterns_kept(model, skip)
    every = {n: m for n, m in model.named_modules() if type(m) is nn.Linear}
    quantized = {n: m for n, m in every.items() if should_convert_module(n, patterns)}
    leaves = {n.rsplit(".", 1)[-1] for n in names}
    ending = [n for n, _ in model.named_modules() if n.rsplit(".", 1)[-1] in leaves]
    return Architecture(
        targets=tuple(names),
        linears={n: (m.out_features, m.in_features) for n, m in quantized.items()},
        kept=tuple(sorted(set(every) - set(quantized))),
        parameters=_parameters(model),
        same_leaf=set(ending) == set(names),
    )


def _meta_model(path: Path) -> nn.Module:
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model: nn.Module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise CheckpointError(
            f"{path / 'config.json'}: transformers cannot build this architecture "
            f"({type(error).__name__}: {error}); a causal language model that needs no code of its "
            "own is expected"
        ) from error
    return model


def _patterns_kept(model: Any, skip: list[str] | None) -> list[str]:
    """Modules that transformers leaves in 16 bits, by its own rule."""
    kept: list[str] = HfQuantizer.get_modules_to_not_convert(
        model, skip, model._keep_in_fp32_modules
    )
    return kept


def _parameters(model: Any) -> dict[str, tuple[int, ...]]:
    tied = set(model.all_tied_weights_keys)
    state = model.state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if name not in tied}
