"""``adapter_config.json`` of a LoRA adapter, as untrusted input: which scale a module's pair has.

scale = alpha / r, or alpha / √r with ``use_rslora``. ``rank_pattern`` and ``alpha_pattern`` give
modules an r or alpha of their own: the first key that matches the end of a module's name counts.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from tinylora.adapters.peft_directory import AdapterConfig

MAX_RANK = 1 << 14

_MAX_ALPHA = 1e9
# Of the other starts some change the base's weights, and what was trained belongs on those.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_PATTERN_LETTERS = re.compile(r"[\w.\-^$|()\\*+?\[\]]{1,200}")


def _safe(key: str) -> str:
    """Refuse a pattern that may not end soon: more wildcards or groups can take forever."""
    many = sum(map(key.count, "*+?")) > 2 or ("|" in key and key.count("(") > 1)
    bad = many or not _PATTERN_LETTERS.fullmatch(key) or re.search(r"\)[*+?]", key)
    try:
        re.compile("" if bad else key)
    except re.error:
        bad = True
    if bad:
        raise ValueError(
            "expected a module's name, or a regular expression with at most two of * + ?, one "
            "group where there is a |, and no repeated group; write the names out"
        )
    return key


def _plain_start(start: Any) -> Any:
    if not any(start is known or start == known != 1 for known in _PLAIN_STARTS):
        raise ValueError(
            "expected another start: this one changes the base's weights, and the pair belongs on "
            "those; convert the adapter with PEFT (save_pretrained with "
            "path_initial_model_for_weight_conversion), or merge it there"
        )
    return start


def _names(targets: Any) -> Any:
    if isinstance(targets, list) and not all(isinstance(name, str) for name in targets):
        raise ValueError("expected a list of names; an entry is no string")
    return targets


_Pattern = Annotated[str, AfterValidator(_safe)]
_Rank = Annotated[int, Field(ge=1, le=MAX_RANK)]
_Alpha = Annotated[float, Field(ge=-_MAX_ALPHA, le=_MAX_ALPHA, allow_inf_nan=False)]


class LoraConfig(AdapterConfig):
    """The fields that decide an adapter's delta."""

    # PEFT takes fan_in_fan_out back where a layer is linear, and other layers are refused.
    without_effect: ClassVar[frozenset[str]] = frozenset(
        {"auto_mapping", "exclude_modules", "inference_mode", "layers_pattern", "lora_dropout"}
        | {"layers_to_transform", "megatron_core", "peft_version", "revision", "runtime_config"}
        | {"task_type", "fan_in_fan_out", "qalora_group_size", "loftq_config", "eva_config"}
        | {"corda_config", "lora_ga_config"}
    )
    peft_type: Literal["LORA"]
    r: _Rank
    lora_alpha: _Alpha
    use_rslora: bool = False
    rank_pattern: dict[_Pattern, _Rank] | None = None
    alpha_pattern: dict[_Pattern, _Alpha] | None = None
    target_modules: Annotated[Any, AfterValidator(_names)] = None
    init_lora_weights: Annotated[Any, AfterValidator(_plain_start)] = True

    def rank_of(self, module: str) -> int:
        """Rank r of a module's pair."""
        return int(_matching(self.rank_pattern, module, self.r))

    def scale_of(self, module: str) -> float:
        """What B · A is multiplied by."""
        r = self.rank_of(module)
        alpha = _matching(self.alpha_pattern, module, self.lora_alpha)
        return alpha / (math.sqrt(r) if self.use_rslora else r)

    def names(self, module: str) -> bool:
        """Whether ``target_modules``, a list of names or another rule, may mean a module."""
        targets = self.target_modules
        return not isinstance(targets, list) or any(
            module == target or module.endswith(f".{target}") for target in targets
        )


def _matching(pattern: Mapping[str, float] | None, module: str, default: float) -> float:
    """The value of the first key that PEFT would find to match a module."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
