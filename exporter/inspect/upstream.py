"""What is in an artifact, and what about it looks odd."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exporter.inspect.peft import PeftInspection, inspect_peft
from exporter.inspect.vector_words import about_vector, vector_summary
from tinylora import Artifact, DeltaOptions, load_adapter, load_artifact
from tinylora.adapters.upstream.formula import HOW_TO_TELL
from tinylora.adapters.upstream.options import resolve_options

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
        known, rng = self.artifact.known_formula, self.artifact.stream_hint
        if known is None or rng is None:
            return (
                f"formula {'must be given' if known is None else known.formula}, rng "
                f"{rng or 'must be given'}, trained on {self.artifact.trained_on}"
            )
        return str(resolve_options(self.artifact, DeltaOptions()))

    @property
    def vector_name(self) -> str:
        """Key of the trained numbers in :meth:`as_dict`."""
        return "global_v"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        artifact, known = self.artifact, self.artifact.known_formula
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
            "formula": known and known.formula,
            "formula_evidence": known and known.evidence,
            "trained_on": artifact.trained_on,
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
    if artifact.known_formula is None:
        yield f"nothing in the file tells its formula, --formula must be given: {HOW_TO_TELL}"
    if artifact.stream_hint is None:
        yield f"saved from {artifact.saved_device!r}: --rng cuda or cpu must be given"
    elif artifact.stream_hint == "cuda":
        yield f"saved from {artifact.saved_device}: the CUDA random stream is emulated"
    if artifact.saved_device.startswith("cuda:") and artifact.saved_device != "cuda:0":
        yield "not saved from the first GPU; if the model was split, give --placement"
    if artifact.total_replaced_layers % _MODULES_PER_LAYER:
        yield (
            f"total_replaced_layers {artifact.total_replaced_layers} is no multiple of "
            f"{_MODULES_PER_LAYER}, the linear modules of a layer"
        )
    if artifact.extra_keys:
        yield f"unknown keys, ignored: {', '.join(artifact.extra_keys)}"
