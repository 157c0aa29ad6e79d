"""``adapter_config.json`` of a PEFT TinyLoRA adapter (PEFT 0.19 and later), as untrusted input."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylora.adapters.upstream.artifact import MAX_PROJECTION, MAX_RANK, MAX_U
from tinylora.errors import (
    ArtifactFieldError,
    ArtifactMissingError,
    ArtifactUnreadableError,
    ArtifactValueError,
)

CONFIG_FILE = "adapter_config.json"

_MAX_BYTES = 1 << 20
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
_EMPTY: tuple[object, ...] = (None, False, [], {}, "")


@dataclass(frozen=True)
class PeftConfig:
    """The fields that decide an adapter's delta.

    Attributes:
        r: Rank; a module with a shorter side has that side's length instead.
        u: Length of each trained vector.
        weight_tying: 0.0: a vector for each module, 1.0: one for all.
        projection_seed: Seed of P where P is not stored.
        save_projection: Whether P is stored.
        base: ``base_model_name_or_path``, empty where none is named.
    """

    r: int
    u: int
    weight_tying: float
    projection_seed: int
    save_projection: bool
    base: str


def read_config(directory: Path) -> PeftConfig:
    """Read and check the configuration.

    Raises:
        ArtifactMissingError: It is not there.
        ArtifactUnreadableError: No JSON, or far too large.
        ArtifactFieldError: A field is missing, has the wrong type, or belongs to another method.
        ArtifactValueError: A field's value is out of range or asks for what TinyLoRA lacks.
    """
    path = directory / CONFIG_FILE
    content = _object(path)
    if content.get("peft_type") != "TINYLORA":
        raise ArtifactFieldError(
            f"{path}: peft_type is {content.get('peft_type')!r}, expected 'TINYLORA'; other PEFT "
            "methods are not read here, merge those with PEFT"
        )
    for name, value in sorted(content.items()):
        if name in _CHECKED | _WITHOUT_EFFECT or value in _NEUTRAL.get(name, _EMPTY):
            continue
        raise ArtifactValueError(
            f"{path}: {name} = {value!r:.200}, expected none: this changes the model in a way that "
            "is not known here; merge this adapter with PEFT, or train one without it"
        )
    base = content.get("base_model_name_or_path")
    if not isinstance(base, str | None):
        raise ArtifactFieldError(
            f"{path}: base_model_name_or_path is a {type(base).__name__}, expected str"
        )
    if base is not None and not base.isprintable():
        raise ArtifactValueError(
            f"{path}: base_model_name_or_path = {base!r:.200}, expected one line, a hub id"
        )
    config = PeftConfig(
        r=_whole(path, content, "r", 1, MAX_RANK),
        u=_whole(path, content, "u", 1, MAX_U),
        weight_tying=_tying(path, content),
        projection_seed=_whole(path, content, "projection_seed", -(1 << 63), (1 << 63) - 1),
        save_projection=_flag(path, content, "save_projection"),
        base=base or "",
    )
    if config.u * config.r**2 > MAX_PROJECTION:
        raise ArtifactValueError(
            f"{path}: u = {config.u} with r = {config.r} makes projections of "
            f"{config.u * config.r**2} numbers a module, expected at most {MAX_PROJECTION}"
        )
    return config


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ArtifactMissingError(
            f"{path}: no such file; expected the directory of a PEFT TinyLoRA adapter"
        )
    if path.stat().st_size > _MAX_BYTES:
        raise ArtifactUnreadableError(
            f"{path}: {path.stat().st_size} bytes; a configuration has at most {_MAX_BYTES}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactUnreadableError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ArtifactFieldError(f"{path}: holds a {type(content).__name__}, expected an object")
    return content


def _whole(path: Path, content: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value = _required(path, content, name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArtifactFieldError(f"{path}: {name} is {value!r:.100}, expected a whole number")
    if not least <= value <= most:
        raise ArtifactValueError(f"{path}: {name} = {value!r:.100}, expected {least} to {most}")
    return value


def _tying(path: Path, content: Mapping[str, Any]) -> float:
    value = _required(path, content, "weight_tying")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ArtifactFieldError(f"{path}: weight_tying is {value!r:.100}, expected a number")
    if not 0 <= value <= 1:  # nor is NaN
        raise ArtifactValueError(f"{path}: weight_tying = {value!r:.100}, expected 0.0 to 1.0")
    return float(value)


def _flag(path: Path, content: Mapping[str, Any], name: str) -> bool:
    value = _required(path, content, name)
    if not isinstance(value, bool):
        raise ArtifactFieldError(f"{path}: {name} is {value!r:.100}, expected true or false")
    return value


def _required(path: Path, content: Mapping[str, Any], name: str) -> Any:
    if name not in content:
        raise ArtifactFieldError(
            f"{path}: {name} is missing; is this a configuration that PEFT wrote?"
        )
    return content[name]
