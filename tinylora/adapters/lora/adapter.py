"""A LoRA adapter, as untrusted input: ΔW = scale · B · A.

The file has ``base_model.model.X.lora_A.weight``, ``[r, in]``, and ``….lora_B.weight``,
``[out, r]``, for each module X. Whatever else PEFT can store beside them is refused by name.

scale = alpha / r, or alpha / √r with ``use_rslora``. ``rank_pattern`` and ``alpha_pattern`` give
modules an r or alpha of their own: the first key that matches the end of a module's name counts.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from tinylora.adapters.adapter import AdapterSizes
from tinylora.adapters.peft_directory import (
    CONFIG_FILE,
    PREFIX,
    AdapterConfig,
    StoredAdapter,
    Weights,
    adapter_files,
    open_weights,
    read_config,
)
from tinylora.errors import ArtifactError
from tinylora.files.digests import files_sha256

LEAVES = ("lora_A.weight", "lora_B.weight")
_PAIR = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_[AB]\.weight", re.DOTALL)
_OTHER_PARTS = {
    ".lora_embedding_A": "a LoRA on an embedding",
    ".lora_embedding_B": "a LoRA on an embedding",
    ".lora_magnitude_vector": "the magnitudes of DoRA",
    ".lora_A.bias": "a bias",
    ".lora_B.bias": "a bias",
    ".modules_to_save": "a module that was trained as a whole",
    ".token_adapter": "trained tokens",
    ".base_layer.": "a copy of the base's own layer (save_embedding_layers=False leaves it out)",
}
_MAX_RANK = 1 << 14
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
_Rank = Annotated[int, Field(ge=1, le=_MAX_RANK)]
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


@dataclass(frozen=True, eq=False)
class LoraAdapter(StoredAdapter):
    """A checked adapter; A and B stay in the file until they are asked for."""

    vectors: ClassVar[Tensor] = torch.zeros(1, 0)  # none is shared
    weight_tying: ClassVar[float] = 0.0
    config: LoraConfig

    @property
    def sizes(self) -> AdapterSizes:
        """The largest rank; there is no vector."""
        return AdapterSizes(max(r for _, _, r in self.shapes.values()), 0, 0, capped=True)

    def describe(self) -> dict[str, Any]:
        """What decides its delta, for a manifest."""
        ranks = Counter(r for _, _, r in self.shapes.values())
        scales = Counter(self.config.scale_of(name) for name in self.shapes)
        return {
            "dialect": "lora",
            "sha256": self.sha256,
            "ranks": {str(rank): count for rank, count in sorted(ranks.items())},
            "scales": {f"{scale:.9g}": count for scale, count in sorted(scales.items())},
            "use_rslora": self.config.use_rslora,
            "model_id": self.model_id,
            "modules": len(self.shapes),
        }


def load_lora_adapter(directory: str | Path) -> LoraAdapter:
    """Read and check what ``save_pretrained`` of a PEFT model with a LoRA made.

    Raises:
        ArtifactMissingError: One of its files is not there.
        ArtifactError: A file, field or tensor is damaged, missing or wrong; or there are others.
    """
    directory = Path(directory)
    config = read_config(directory, LoraConfig)
    with open_weights(directory) as weights:
        modules = sorted({_module_of(weights, name) for name in weights.shapes})
        if not modules:
            raise ArtifactError(f"{weights.file}: has no module (no tensor named *.lora_A.weight)")
        shapes = {module: _shape(config, weights, module) for module in modules}
        weights.check_finite()
    return LoraAdapter(directory, config, shapes, files_sha256(adapter_files(directory)))


def _module_of(weights: Weights, name: str) -> str:
    for part, meaning in _OTHER_PARTS.items():
        if part in name:
            remedy = "merge this adapter with PEFT, or train one without it"
            weights.refuse(name, f"is {meaning}, which cannot be folded here; {remedy}")
    found = _PAIR.fullmatch(name)
    if found is None:
        remedy = "was something else trained along with it? Merge it with PEFT"
        weights.refuse(name, f"is no part of a LoRA ({PREFIX}*.lora_A.weight and B's); {remedy}")
    return found[1]


def _shape(config: LoraConfig, weights: Weights, module: str) -> tuple[int, int, int]:
    names = [f"{PREFIX}{module}.{leaf}" for leaf in LEAVES]
    a, b = map(weights.shape, names)
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
        weights.refuse(
            names[0],
            f"and .{LEAVES[1]} have shapes {list(a)} and {list(b)}, expected [r, in] and [out, r] "
            "of a linear layer; other layers must be merged with PEFT",
        )
    if a[0] != (rank := config.rank_of(module)):
        weights.refuse(
            names[0],
            f"has rank {a[0]}, but {CONFIG_FILE} gives this module rank {rank} (r and "
            "rank_pattern), by which it is scaled; copy both files again",
        )
    if not config.names(module):
        weights.refuse(
            names[0], f"is none that target_modules of {CONFIG_FILE} names; copy both files again"
        )
    return b[0], a[1], a[0]
