"""``adapter_config.json`` of a PEFT TinyLoRA adapter (PEFT 0.19 and later), as untrusted input."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tinylora.adapters.adapter import MAX_PROJECTION, MAX_RANK, MAX_U
from tinylora.adapters.peft_directory import AdapterConfig
from tinylora.errors import ArtifactError

METHOD = "TINYLORA"

_CHECKED = frozenset(
    {"peft_type", "base_model_name_or_path", "r", "u", "weight_tying", "projection_seed"}
    | {"save_projection"}
)
# What only training needs, or only says which modules were chosen: the weight file names them.
_WITHOUT_EFFECT = frozenset(
    {"auto_mapping", "exclude_modules", "inference_mode", "init_v_bound", "init_weights"}
    | {"layers_pattern", "layers_to_transform", "peft_version", "revision", "target_modules"}
    | {"task_type", "tinylora_dropout"}
)
_NEUTRAL: Mapping[str, tuple[object, ...]] = {"bias": ("none", None)}


@dataclass(frozen=True)
class PeftConfig:
    """The fields that decide an adapter's delta.

    Attributes:
        r: Rank; a module with a shorter side has that side's length instead.
        u: Length of each trained vector.
        weight_tying: 0.0: a vector for each module, 1.0: one for all.
        projection_seed: Seed of P where P is not stored.
        base: ``base_model_name_or_path``, empty where none is named.
    """

    r: int
    u: int
    weight_tying: float
    projection_seed: int
    save_projection: bool
    base: str


def read_config(directory: Path) -> PeftConfig:
    """Read and check the configuration; an ArtifactError names a missing or wrong field."""
    fields = AdapterConfig(directory, METHOD)
    fields.refuse_unknown(_CHECKED | _WITHOUT_EFFECT, _NEUTRAL)
    config = PeftConfig(
        r=fields.whole("r", 1, MAX_RANK),
        u=fields.whole("u", 1, MAX_U),
        weight_tying=fields.number("weight_tying", 0.0, 1.0),
        projection_seed=fields.whole("projection_seed", -(1 << 63), (1 << 63) - 1),
        save_projection=fields.flag("save_projection"),
        base=fields.base(),
    )
    if config.u * config.r**2 > MAX_PROJECTION:
        raise ArtifactError(
            f"{fields.path}: u = {config.u} with r = {config.r} makes projections of "
            f"{config.u * config.r**2} numbers a module, expected at most {MAX_PROJECTION}"
        )
    return config
