"""What is in an artifact, and what about it looks odd."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exporter.peft_inspection import PeftInspection, inspect_peft
from exporter.vector_words import about_vector, vector_summary
from tinylora import Artifact, DeltaOptions, load_adapter, load_artifact
from tinylora.options import resolve_options

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

    @property
    def takes(self) -> str:
        """The options that an export would take by itself, for display."""
        if self.artifact.stream_hint is None:
            return f"formula {self.artifact.formula_hint}, rng must be given"
        resolved = resolve_options(self.artifact, DeltaOptions())
        return f"formula {resolved.formula}, rng {resolved.rng}, svd {resolved.svd}"

    @property
    def vector_name(self) -> str:
        """Key of the trained numbers in :meth:`as_dict`."""
        return "global_v"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        artifact = self.artifact
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
            "global_v": vector_summary(artifact.global_v),
            "remarks": list(self.remarks),
        }


def inspect_artifact(path: str | Path) -> ArtifactInspection:
    """Read upstream's artifact and remark on it.

    Args:
        path: Upstream's ``tiny_lora_v.pt``.

    Raises:
        ArtifactError: It cannot be used; nothing in it was run.
    """
    return _inspect(load_artifact(path))


def inspect_adapter(path: str | Path) -> ArtifactInspection | PeftInspection:
    """Read an adapter of either dialect and remark on it.

    Args:
        path: Upstream's ``tiny_lora_v.pt``, or the directory of a PEFT TinyLoRA adapter.

    Raises:
        ArtifactError: It cannot be used; nothing in it was run.
        ArtifactMissingError: Nothing is there.
    """
    adapter = load_adapter(path)
    return _inspect(adapter) if isinstance(adapter, Artifact) else inspect_peft(adapter)


def _inspect(artifact: Artifact) -> ArtifactInspection:
    return ArtifactInspection(artifact, tuple((*_about_values(artifact), *_about_origin(artifact))))


def _about_values(artifact: Artifact) -> Iterator[str]:
    yield from about_vector(artifact.global_v, "global_v")
    if artifact.global_v.dtype != torch.bfloat16 and bool(artifact.global_v.any()):
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
