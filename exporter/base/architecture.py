"""What a base's ``config.json`` says about its modules, as transformers understands it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from exporter.base.checkpoint import CONFIG_FILE
from exporter.errors import CheckpointError
from tinylora import target_names
from tinylora.errors import ModelCodeError
from tinylora.models.pretrained import load_outline


@dataclass(frozen=True)
class Architecture:
    """The modules and parameters that a checkpoint must have.

    Attributes:
        targets: Linear modules that the adapter changes, in the order of the random stream.
        linears: Every linear module that 4-bit loading may quantize -> ``(out, in)``.
        kept: Names of the linear modules that stay in 16 bits (``llm_int8_skip_modules``).
        parameters: Parameter and persistent buffer name -> shape, tied ones without their alias.
        tied: Names of parameters that are an alias of another -> the other.
        renamed: Names in the base's files -> those that transformers loads them under.
        in_files: Of these, the model's name -> the family's name in files, which an export keeps:
            other classes and engines look for it.
        own_heads: Parameters that config.json ties, and that are stored with other values.
        ignored: Patterns of other names that a checkpoint of this architecture may hold.
        same_leaf: Whether no module but a target ends in a target's last name.
    """

    targets: tuple[str, ...]
    linears: Mapping[str, tuple[int, int]]
    kept: tuple[str, ...]
    parameters: Mapping[str, tuple[int, ...]]
    tied: Mapping[str, str]
    ignored: tuple[str, ...]
    same_leaf: bool
    renamed: Mapping[str, str]
    in_files: Mapping[str, str]
    own_heads: tuple[str, ...] = ()


def read_architecture(
    path: Path,
    config: Mapping[str, Any],
    find_targets: Callable[[nn.Module], Sequence[str]] = target_names,
    stored: Iterable[str] = (),
) -> Architecture:
    """Read off the modules of a checkpoint's model.

    ``find_targets`` gives the modules that the adapter changes, in its order; ``stored`` are the
    names in the checkpoint's files.

    Raises:
        CheckpointError: transformers has no such architecture, or it needs code from elsewhere.
    """
    from transformers.quantizers.base import HfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    model = _meta_model(path)
    skip = (config.get("quantization_config") or {}).get("llm_int8_skip_modules")
    names = find_targets(model)
    every = {
        n: (m.out_features, m.in_features) for n, m in model.named_modules() if type(m) is nn.Linear
    }
    # those that transformers leaves in 16 bits, by its own rule
    patterns = HfQuantizer.get_modules_to_not_convert(model, skip, model._keep_in_fp32_modules)
    kept = {name for name in every if not should_convert_module(name, patterns)}
    tied = dict(model.all_tied_weights_keys)
    renamed, in_files = _renamed(model, stored)
    leaves = {n.rsplit(".", 1)[-1] for n in names}
    ending = {n for n, _ in model.named_modules() if n.rsplit(".", 1)[-1] in leaves}
    return Architecture(
        targets=tuple(names),
        linears={name: shape for name, shape in every.items() if name not in kept},
        kept=tuple(sorted(kept)),
        parameters={n: tuple(t.shape) for n, t in model.state_dict().items() if n not in tied},
        tied=tied,
        ignored=tuple(sorted(model._keys_to_ignore_on_load_unexpected or ())),
        same_leaf=ending == set(names),
        renamed=renamed,
        in_files=in_files,
    )


def _renamed(model: Any, stored: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """``renamed`` and ``in_files`` of an :class:`Architecture`."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    own, stored = model.state_dict(), sorted(stored)
    mapping = get_model_conversion_mapping(model)
    rules = [rule for rule in mapping if isinstance(rule, WeightRenaming)]
    found: dict[str, str] = {}
    in_files: dict[str, str] = {}
    for name in stored:
        prefix, mark, part = name.partition(".weight.")  # a part goes with its 4-bit weight
        weight = f"{prefix}.weight" if mark else name
        loaded, _ = rename_source_key(weight, rules, [], model.base_model_prefix, own)
        if loaded != weight and loaded in own:
            found[name] = f"{loaded}.{part}" if mark else loaded
            if rename_source_key(weight, rules, [])[0] != weight:  # not for want of a prefix
                in_files[loaded] = weight
    there = {found.get(name, name) for name in stored}
    for alias, name in model.all_tied_weights_keys.items():
        if alias in there and name not in there:  # either of the two will do
            found[next(one for one in stored if found.get(one, one) == alias)] = name
    if len({found.get(name, name) for name in stored}) < len(stored):
        return {}, {}  # twice the same: neither counts, and what is missing is named
    return found, in_files


def _meta_model(path: Path) -> Any:
    """The model without memory for its weights."""
    try:
        return load_outline(path)
    except ModelCodeError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # transformers raises whatever a malformed configuration leads to
        raise CheckpointError(
            f"{path / CONFIG_FILE}: transformers cannot build this ({type(error).__name__}: "
            f"{error}); expected a causal language model"
        ) from error
