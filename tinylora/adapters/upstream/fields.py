"""The fields of an artifact, checked."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from tinylora.adapters.adapter import MAX_PROJECTION, MAX_RANK, MAX_U
from tinylora.adapters.options import Formula
from tinylora.adapters.upstream.foreign_files import words_about_content
from tinylora.errors import ArtifactError

REQUIRED: Mapping[str, type] = {
    "global_v": Tensor,
    "u_value": int,
    "rank": int,
    "seed": int,
    "model_id": str,
    "total_replaced_layers": int,
}


def check_types(path: Path, loaded: object) -> dict[str, Any]:
    """Refuse a missing field or one of another type, with an ArtifactError that names it."""
    if (words := words_about_content(loaded)) is not None:
        raise ArtifactError(f"{path}: {words}")
    if not isinstance(loaded, dict):
        raise ArtifactError(
            f"{path}: holds a {type(loaded).__name__}, expected a dict with {sorted(REQUIRED)}"
        )
    if unnamed := [key for key in loaded if not (isinstance(key, str) and key.isprintable())]:
        raise ArtifactError(f"{path}: key {ascii(unnamed[0])} is no printable string")
    for name, kind in REQUIRED.items():
        if name not in loaded:
            raise ArtifactError(
                f"{path}: key {name!r} is missing (found {sorted(loaded)}); this is not a "
                "TinyLoRA artifact, or an older format"
            )
        value = loaded[name]
        # bool is an int to Python, and never a count or a seed
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ArtifactError(
                f"{path}: {name} is a {type(value).__name__}, expected {kind.__name__}"
            )
    if not isinstance(loaded.get("is_quantized"), bool | None):
        raise ArtifactError(
            f"{path}: is_quantized is a {type(loaded['is_quantized']).__name__}, expected bool"
        )
    if (formula := loaded.get("formula")) is not None and formula not in get_args(Formula):
        raise ArtifactError(
            f"{path}: formula is {formula!r:.100}, expected one of {', '.join(get_args(Formula))}"
        )
    vector = loaded["global_v"]
    if vector.dim() != 1 or not vector.is_floating_point() or vector.layout != torch.strided:
        raise ArtifactError(
            f"{path}: global_v is {vector.dtype} of shape {list(vector.shape)}, expected a "
            "floating-point vector [u]"
        )
    return loaded


def check_values(path: Path, fields: Mapping[str, Any]) -> None:
    """Refuse a value that cannot be right, with an ArtifactError that names the field."""

    def refuse(name: str, found: object, expected: str) -> None:
        raise ArtifactError(f"{path}: {name} = {found}, expected {expected}")

    vector, u, rank, seed = (fields[k] for k in ("global_v", "u_value", "rank", "seed"))
    if not 1 <= vector.numel() <= MAX_U:
        refuse("global_v.numel()", vector.numel(), f"1 to {MAX_U}")
    if u != vector.numel():
        refuse("u_value", u, f"the length of global_v, {vector.numel()}")
    if not 1 <= rank <= MAX_RANK:
        refuse("rank", rank, f"1 to {MAX_RANK}")
    if u * rank**2 > MAX_PROJECTION:
        refuse("u_value · rank²", u * rank**2, f"at most {MAX_PROJECTION} numbers a module")
    if not -(1 << 63) <= seed < 1 << 64:
        refuse("seed", seed, "a 64-bit integer, as torch.manual_seed takes")
    if not 1 <= fields["total_replaced_layers"] <= 1 << 20:
        refuse("total_replaced_layers", fields["total_replaced_layers"], f"1 to {1 << 20}")
    if not fields["model_id"].strip() or not fields["model_id"].isprintable():
        refuse("model_id", repr(fields["model_id"]), "the hub id of the base model, in one line")
    if not bool(torch.isfinite(vector).all()):
        bad = [i for i, x in enumerate(vector.tolist()) if not math.isfinite(x)]
        refuse("global_v", f"non-finite at {bad[:8]}", "finite numbers; the training diverged")
