"""``adapter_config.json`` of a LoRA adapter, as untrusted input: which scale a module's pair has.

scale = alpha / r, or alpha / √r with ``use_rslora``. ``rank_pattern`` and ``alpha_pattern`` give
modules an r or alpha of their own: the first key that matches the end of a module's name counts.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinylora.adapters.peft_directory import AdapterConfig
from tinylora.errors import ArtifactError

METHOD = "LORA"
MAX_RANK = 1 << 14

_MAX_ALPHA = 1e9
_CHECKED = frozenset(
    {"peft_type", "base_model_name_or_path", "r", "lora_alpha", "use_rslora", "rank_pattern"}
    | {"alpha_pattern", "target_modules", "init_lora_weights"}
)
# What only training needs, or only says which modules were chosen (the weight file names them).
# PEFT takes fan_in_fan_out back where a layer is linear, and other layers are refused.
_WITHOUT_EFFECT = frozenset(
    {"auto_mapping", "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform"}
    | {"lora_dropout", "megatron_core", "peft_version", "revision", "runtime_config", "task_type"}
    | {"fan_in_fan_out", "qalora_group_size", "loftq_config", "eva_config", "corda_config"}
    | {"lora_ga_config"}
)
_NEUTRAL: Mapping[str, tuple[object, ...]] = {"bias": ("none", None)}
# Of the others some change the base's weights, and what was trained belongs on those.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_PATTERN_LETTERS = re.compile(r"[\w.\-^$|()\\*+?\[\]]{1,200}")


@dataclass(frozen=True)
class LoraConfig:
    """The fields that decide an adapter's delta.

    Attributes:
        ranks: ``rank_pattern``, in its order.
        alphas: ``alpha_pattern``, likewise.
        targets: ``target_modules`` as a list of names; None where it is another rule.
        base: ``base_model_name_or_path``, empty where none is named.
    """

    path: Path
    r: int
    alpha: float
    use_rslora: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    targets: tuple[str, ...] | None
    base: str

    def rank_of(self, module: str) -> int:
        """Rank r of a module's pair."""
        return int(_matching(self.ranks, module, self.r))

    def scale_of(self, module: str) -> float:
        """What B · A is multiplied by."""
        r = self.rank_of(module)
        return _matching(self.alphas, module, self.alpha) / (math.sqrt(r) if self.use_rslora else r)

    def names(self, module: str) -> bool:
        """Whether ``target_modules`` may mean a module."""
        return self.targets is None or any(
            module == target or module.endswith(f".{target}") for target in self.targets
        )


def read_config(directory: Path) -> LoraConfig:
    """Read and check the configuration; an ArtifactError names a missing or wrong field."""
    fields = AdapterConfig(directory, METHOD)
    fields.refuse_unknown(_CHECKED | _WITHOUT_EFFECT, _NEUTRAL)
    start = fields.content.get("init_lora_weights", True)
    if not any(start is known or start == known != 1 for known in _PLAIN_STARTS):
        raise ArtifactError(
            f"{fields.path}: init_lora_weights = {start!r:.100}: this start changes the base's "
            "weights, and the pair belongs on those; convert the adapter with PEFT "
            "(save_pretrained with path_initial_model_for_weight_conversion), or merge it there"
        )
    return LoraConfig(
        path=fields.path,
        r=fields.whole("r", 1, MAX_RANK),
        alpha=fields.number("lora_alpha", -_MAX_ALPHA, _MAX_ALPHA),
        use_rslora=fields.flag("use_rslora", default=False),
        ranks={name: int(value) for name, value in _pattern(fields, "rank_pattern").items()},
        alphas=_pattern(fields, "alpha_pattern"),
        targets=_targets(fields),
        base=fields.base(),
    )


def _matching(pattern: Mapping[str, float], module: str, default: float) -> float:
    """The value of the first key that PEFT would find to match a module."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _pattern(fields: AdapterConfig, name: str) -> dict[str, float]:
    content = fields.content.get(name) or {}
    if not isinstance(content, dict):
        raise ArtifactError(
            f"{fields.path}: {name} is a {type(content).__name__}, expected an object"
        )
    kind, least, most = (
        (int, 1.0, MAX_RANK) if name == "rank_pattern" else (int | float, -_MAX_ALPHA, _MAX_ALPHA)
    )
    for key, value in content.items():
        where = f"{fields.path}: {name}[{key!r:.100}]"
        if not _is_safe(key):
            raise ArtifactError(
                f"{where}: expected a module's name, or a regular expression with at most two "
                "of * + ?, one group where there is a |, and no repeated group; write the names out"
            )
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
            raise ArtifactError(
                f"{where} is {value!r:.100}, expected a number from {least:g} to {most:g}"
            )
    return content


def _is_safe(key: str) -> bool:
    """Whether a pattern ends soon on any name: more wildcards or groups can take forever."""
    if not _PATTERN_LETTERS.fullmatch(key) or re.search(r"\)[*+?]", key):
        return False
    if sum(map(key.count, "*+?")) > 2 or ("|" in key and key.count("(") > 1):
        return False
    try:
        re.compile(key)
    except re.error:
        return False
    return True


def _targets(fields: AdapterConfig) -> tuple[str, ...] | None:
    """A list of names; of a regular expression the weight file shows what it chose."""
    found = fields.content.get("target_modules")
    if not isinstance(found, list):
        return None
    if not all(isinstance(name, str) for name in found):
        raise ArtifactError(f"{fields.path}: target_modules has an entry that is no string")
    return tuple(found)
