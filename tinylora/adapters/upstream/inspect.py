"""What is in an artifact, and what about it looks odd."""

from collections.abc import Iterator

import torch

from tinylora.adapters.inspection import Inspection, about_vector, vector_summary
from tinylora.adapters.options import DeltaOptions
from tinylora.adapters.upstream.artifact import Artifact
from tinylora.adapters.upstream.formula import HOW_TO_TELL
from tinylora.adapters.upstream.resolve import resolve_options

_MODULES_PER_LAYER = 7


def inspect(artifact: Artifact) -> Inspection:
    """An artifact's facts and remarks on it."""
    known = artifact.known_formula
    facts = {
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
    }
    remarks = (*_about_values(artifact), *_about_origin(artifact))
    return Inspection(artifact, facts, "global_v", _takes(artifact), remarks)


def _takes(artifact: Artifact) -> str:
    known, rng = artifact.known_formula, artifact.stream_hint
    if known is None or rng is None:
        return (
            f"formula {'must be given' if known is None else known.formula}, rng "
            f"{rng or 'must be given'}, trained on {artifact.trained_on}"
        )
    return str(resolve_options(artifact, DeltaOptions()))


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
