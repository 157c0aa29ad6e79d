"""What is in an artifact, and what about it looks odd."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tinylora import Artifact, DeltaOptions, load_artifact
from tinylora.delta import resolve_options

# Trained vectors seen so far lie between 1e-7 and 2e-4.
_SMALL, _LARGE = 1e-7, 1e-1
_MODULES_PER_LAYER = 7


@dataclass(frozen=True)
class ArtifactInspection:
    """An artifact and remarks on it.

    Attributes:
        artifact: The artifact.
        remarks: What looks odd or needs a decision, in plain words.
    """

    artifact: Artifact
    remarks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        artifact = self.artifact
        vector = artifact.global_v.double()
        return {
            "file": artifact.path.name,
            "sha256": artifact.sha256,
            "model_id": artifact.model_id,
            "total_replaced_layers": artifact.total_replaced_layers,
            "rank": artifact.rank,
            "u": artifact.u,
            "seed": artifact.seed,
            "is_quantized": artifact.is_quantized,
            "saved_device": artifact.saved_device,
            "formula_hint": artifact.formula_hint,
            "rng_hint": artifact.stream_hint,
            "global_v": {
                "dtype": str(artifact.global_v.dtype).removeprefix("torch."),
                "norm": float(vector.norm()),
                "smallest": float(vector.abs().min()),
                "largest": float(vector.abs().max()),
                "zeros": int((vector == 0).sum()),
                "values": vector.tolist(),
            },
            "remarks": list(self.remarks),
        }


def inspect_artifact(path: str | Path) -> ArtifactInspection:
    """Read an artifact and remark on it.

    Args:
        path: Upstream's ``tiny_lora_v.pt``.

    Raises:
        ArtifactError: It cannot be used; nothing in it was run.
    """
    artifact = load_artifact(path)
    return ArtifactInspection(artifact, tuple((*_about_values(artifact), *_about_origin(artifact))))


def _about_values(artifact: Artifact) -> Iterator[str]:
    vector = artifact.global_v.double().abs()
    largest = float(vector.max())
    if largest == 0:
        yield "global_v is all zeros: nothing was trained, the adapter changes nothing"
        return
    if zeros := int((vector == 0).sum()):
        yield f"{zeros} of {artifact.u} entries of global_v are exactly zero"
    if largest < _SMALL:
        yield f"the largest entry of global_v is {largest:.3g}, less than any real one seen"
    if largest > _LARGE:
        yield f"the largest entry of global_v is {largest:.3g}, far above any real one seen"
    if largest <= 1e-3:
        yield (
            "the delta is far below the steps of 4-bit weights: a merged nf4 export will lose it; "
            "nf4-embedded or lora keep it exactly"
        )
    if artifact.global_v.dtype != torch.bfloat16:
        yield f"global_v is {artifact.global_v.dtype}; upstream stores bfloat16"


def _about_origin(artifact: Artifact) -> Iterator[str]:
    if artifact.is_quantized is None:
        yield "no is_quantized key: formula 'full' by the hint; give --formula if you know better"
    else:
        yield (
            f"is_quantized = {artifact.is_quantized}: formula 'diagonal' by the hint; give "
            "--formula if you know better"
        )
    if artifact.is_quantized is False:
        yield "trained on a 16-bit base; this tool rebuilds the delta from 4-bit weights"
    if artifact.stream_hint is None:
        yield f"saved from {artifact.saved_device!r}: --rng cuda or cpu must be given"
    elif artifact.stream_hint == "cuda":
        yield f"saved from {artifact.saved_device}: the CUDA random stream is emulated"
    if artifact.saved_device.startswith("cuda:") and artifact.saved_device != "cuda:0":
        yield "not saved from the first GPU; if the model was split, the placement matters"
    if artifact.total_replaced_layers % _MODULES_PER_LAYER:
        yield (
            f"total_replaced_layers {artifact.total_replaced_layers} is no multiple of "
            f"{_MODULES_PER_LAYER}, the linear modules of a layer"
        )
    if artifact.extra_keys:
        yield f"unknown keys, ignored: {', '.join(artifact.extra_keys)}"


def resolved_hint(artifact: Artifact) -> str:
    """The options that an export would take by itself, for display."""
    if artifact.stream_hint is None:
        return f"formula {artifact.formula_hint}, rng must be given"
    resolved = resolve_options(artifact, DeltaOptions())
    return f"formula {resolved.formula}, rng {resolved.rng}, svd {resolved.svd}"
