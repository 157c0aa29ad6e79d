"""The fields of an artifact, checked."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, get_args

import torch
from torch import Tensor

from tinylora.adapters.adapter import MAX_PROJECTION, MAX_RANK, MAX_U
from tinylora.adapters.options import Formula
from tinylora.errors import ArtifactError

_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # magic number of the old torch.save
_FACTORS = frozenset({"U", "S", "V", "Vh", "P", "v", "U_r", "Sigma_r", "V_r", "lora_A", "lora_B"})

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

    def refuse(name: str, found: object, expected: str) -> NoReturn:
        raise ArtifactError(f"{path}: {name} is {found}, expected {expected}")

    if (words := _words_about_content(loaded)) is not None:
        raise ArtifactError(f"{path}: {words}")
    if not isinstance(loaded, dict):
        refuse("its content", f"a {type(loaded).__name__}", f"a dict with {sorted(REQUIRED)}")
    for key in loaded:
        if not (isinstance(key, str) and key.isprintable()):
            refuse(f"key {ascii(key)}", f"a {type(key).__name__}", "a printable string")
    for name, kind in REQUIRED.items():
        if name not in loaded:
            refuse(f"key {name!r}", f"missing (found {sorted(loaded)})", "upstream's artifact")
        # bool is an int to Python, and never a count or a seed
        if not isinstance(loaded[name], kind) or isinstance(loaded[name], bool):
            refuse(name, f"a {type(loaded[name]).__name__}", kind.__name__)
    if not isinstance(loaded.get("is_quantized"), bool | None):
        refuse("is_quantized", f"a {type(loaded['is_quantized']).__name__}", "bool")
    if (formula := loaded.get("formula")) is not None and formula not in get_args(Formula):
        refuse("formula", f"{formula!r:.100}", f"one of {', '.join(get_args(Formula))}")
    vector = loaded["global_v"]
    if vector.dim() != 1 or not vector.is_floating_point() or vector.layout != torch.strided:
        found = f"{vector.dtype} of shape {list(vector.shape)}"
        refuse("global_v", found, "a floating-point vector [u]")
    return loaded


def check_values(path: Path, fields: Mapping[str, Any]) -> None:
    """Refuse a value that cannot be right, with an ArtifactError that names the field."""
    vector, u, rank, seed = (fields[k] for k in ("global_v", "u_value", "rank", "seed"))
    count, layers, base = vector.numel(), fields["total_replaced_layers"], fields["model_id"]
    size = u * rank**2
    bad = [i for i, x in enumerate(vector[:MAX_U].tolist()) if not math.isfinite(x)][:8]
    for good, name, found, expected in (
        (1 <= count <= MAX_U, "global_v.numel()", count, f"1 to {MAX_U}"),
        (u == count, "u_value", u, f"the length of global_v, {count}"),
        (1 <= rank <= MAX_RANK, "rank", rank, f"1 to {MAX_RANK}"),
        (size <= MAX_PROJECTION, "u_value · rank²", size, f"at most {MAX_PROJECTION}"),
        (-(1 << 63) <= seed < 1 << 64, "seed", seed, "64 bits, as torch.manual_seed takes"),
        (1 <= layers <= 1 << 20, "total_replaced_layers", layers, f"1 to {1 << 20}"),
        (base.strip() and base.isprintable(), "model_id", repr(base), "the base's hub id"),
        (not bad, "global_v", f"non-finite at {bad}", "finite numbers; the training diverged"),
    ):
        if not good:
            raise ArtifactError(f"{path}: {name} = {found}, expected {expected}")


def words_about_file(name: str, content: bytes) -> str | None:
    """What a file that is no zip archive is, and what can be done; None where that is not known."""
    if content.startswith(_OLD_TORCH):
        return (
            "saved in the format that torch.save had before version 1.6, which is not read here; "
            "load and save it again on the machine that trained it, so that its device stays in "
            "the file: torch.save(torch.load(path, weights_only=True), path)"
        )
    if name.endswith(".safetensors"):
        return (
            "a safetensors file, no tiny_lora_v.pt; of a PEFT adapter give the directory, which "
            "holds adapter_config.json too"
        )
    return None


def _words_about_content(loaded: object) -> str | None:
    """What something that torch.load gave is, and what can be done; None where it is not known."""
    if isinstance(loaded, torch.Tensor):
        return (
            f"holds a tensor {list(loaded.shape)} alone, as upstream's first releases saved the "
            "trained vector: without the seed (they set none) its random projections, and so its "
            "delta, cannot be rebuilt. If you know seed, rank and formula, write a complete file "
            "with tinylora.save_artifact; else train again with a release that saves them"
        )
    if isinstance(loaded, dict) and "global_v" not in loaded and _names_factors(loaded):
        return (
            "holds factors of modules or a vector v (such as U, S, V, P), as other TinyLoRA "
            "projects save them, and not upstream's global_v with its seed. Their formulas differ, "
            "so merge it with the project that made it, or save it there as a PEFT adapter and "
            "give that directory"
        )
    return None


def _names_factors(loaded: dict[object, object]) -> bool:
    """Whether a key, or a key of a dict in it, ends in the name of a factor."""
    keys = [str(key) for key in loaded]
    keys += [str(key) for inner in loaded.values() if isinstance(inner, dict) for key in inner]
    return any(not _FACTORS.isdisjoint(key.split(".")[-2:]) for key in keys)
