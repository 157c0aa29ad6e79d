"""Upstream's dialect: the file that its trainers write, one vector and the seed of projections."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from tinylora.adapters.adapter import Dialect
from tinylora.adapters.inspection import Inspection, about_vector, vector_summary
from tinylora.adapters.options import DeltaOptions, TrainedOn
from tinylora.adapters.peft_directory import CONFIG_FILE
from tinylora.adapters.upstream.artifact import Artifact, load_artifact
from tinylora.adapters.upstream.deltas import AdapterDeltas
from tinylora.adapters.upstream.formula import HOW_TO_TELL
from tinylora.adapters.upstream.resolve import resolve_options
from tinylora.adapters.upstream.targets import TARGET_SUFFIXES, target_modules
from tinylora.errors import ArtifactMissingError, TargetMismatchError

# What the trainers leave in their output directory.
_NAMES = ("tiny_lora_v.pt", "best_tiny_lora_v.pt")
_MODULES_PER_LAYER = 7


def artifact_file(path: Path) -> Path | None:
    """The artifact, also where its directory is given; None for any other directory."""
    if not path.is_dir():
        return path
    if (path / CONFIG_FILE).exists():
        return None
    found = [path / name for name in _NAMES if (path / name).is_file()]
    if len(found) > 1:
        raise ArtifactMissingError(
            f"{path}: holds {' and '.join(file.name for file in found)}; name the file that "
            "you mean (the best one is of an earlier step than the last)"
        )
    return found[0] if found else None


def _layers(adapter: Artifact, model: nn.Module, where: str) -> list[tuple[str, nn.Module]]:
    """All linear layers of certain names, in the order of the random stream."""
    layers = target_modules(model)
    if len(layers) != adapter.total_replaced_layers:
        raise TargetMismatchError(
            f"{where}: has {len(layers) or 'no'} target modules (nn.Linear or Linear4bit "
            f"layers, not Conv1D, named {', '.join(TARGET_SUFFIXES)}), but {adapter.path} was "
            f"trained on {adapter.total_replaced_layers} of {adapter.model_id}; give the base "
            "that it was trained on"
        )
    return layers


def _inspect(adapter: Artifact, trained_on: TrainedOn) -> Inspection:
    """The vector, and what the file tells of formula, random stream and base."""
    known = adapter.known_formula
    facts = {
        "file": adapter.path.name,
        "sha256": adapter.sha256,
        "model_id": adapter.model_id,
        "total_replaced_layers": adapter.total_replaced_layers,
        "rank": adapter.rank,
        "u": adapter.u,
        "seed": adapter.seed,
        "is_quantized": adapter.is_quantized,
        "saved_device": adapter.saved_device,
        "formula": known and known.formula,
        "formula_evidence": known and known.evidence,
        "trained_on": adapter.trained_on,
        "rng_hint": adapter.stream_hint,
        "global_v": vector_summary(adapter.global_v),
    }
    return Inspection(adapter, facts, "global_v", tuple(_remarks(adapter)), _takes(adapter))


def _takes(artifact: Artifact) -> str:
    known, rng = artifact.known_formula, artifact.stream_hint
    if known and rng:
        return str(resolve_options(artifact, DeltaOptions()))
    needed = "must be given"
    formula = known.formula if known else needed
    return f"formula {formula}, rng {rng or needed}, trained on {artifact.trained_on}"


def _remarks(artifact: Artifact) -> Iterator[str]:
    device, vector = artifact.saved_device, artifact.global_v
    yield from about_vector(vector, "global_v")
    if vector.dtype != torch.bfloat16 and bool(vector.any()):
        yield f"global_v is {vector.dtype}; upstream stores bfloat16"
    if artifact.known_formula is None:
        yield f"nothing in the file tells its formula, --formula must be given: {HOW_TO_TELL}"
    if artifact.stream_hint is None:
        yield f"saved from {device!r}: --rng cuda or cpu must be given"
    elif artifact.stream_hint == "cuda":
        yield f"saved from {device}: the CUDA random stream is emulated"
    if device.startswith("cuda:") and device != "cuda:0":
        yield "not saved from the first GPU; if the model was split, give --placement"
    if artifact.total_replaced_layers % _MODULES_PER_LAYER:
        yield (
            f"total_replaced_layers {artifact.total_replaced_layers} is no multiple of "
            f"{_MODULES_PER_LAYER}, the linear modules of a layer"
        )
    if artifact.extra_keys:
        yield f"unknown keys, ignored: {', '.join(artifact.extra_keys)}"


UPSTREAM = Dialect(
    kind=Artifact,
    reads=lambda path: artifact_file(path) is not None,
    files=lambda path: (artifact_file(path) or path,),
    load=lambda path: load_artifact(artifact_file(path) or path),
    layers=_layers,
    deltas=AdapterDeltas,
    inspect=_inspect,
)
