"""Warnings in plain words, for the screen, the model card and the manifest."""

from collections.abc import Iterator

from exporter.base.architecture import Architecture
from exporter.base.check import unused_tensors
from exporter.base.checkpoint import Checkpoint
from exporter.fidelity import FidelityReport
from exporter.formats.format import Format
from exporter.plan.base_weights import BaseWeights
from tinylora import ModuleDeltas

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def fidelity_warning(
    fidelity: FidelityReport, layout: Format, *, by_output: bool = False
) -> str | None:
    """What the user must know about a delta that did not survive; None where it did.

    Args:
        fidelity: What was measured on the weights.
        layout: The format.
        by_output: Whether codes were chosen for the model's output instead, so that the measures
            of the weights say little.
    """
    total, verdict = fidelity.total, fidelity.verdict
    if verdict == "kept":
        return None
    if by_output and verdict != "empty":
        return (
            "Codes were chosen for what the model computes, not to be near the wanted weights, so "
            f"capture and residual of the weights ({total.capture:.3g}, {total.residual:.3g}) say "
            "little here; the retention, from --check-prompts or verify --prompts, says it."
        )
    if verdict == "empty":
        return "The artifact's delta is zero: this export is the base."
    assert total.capture is not None and total.residual is not None
    measured = f"capture {total.capture:.3g}, residual {total.residual:.3g}"
    if verdict == "partly kept":
        return (
            f"Part of the delta was lost in rounding to {layout.name} ({measured}); nf4-embedded "
            "and lora keep all of it."
        )
    rounding = (
        "What was stored is rounding noise larger than the delta."
        if total.residual > 1
        else "The stored weights are, but for little, those of the base."
    )
    return (
        f"THE DELTA WAS LOST: it is smaller than the steps of {layout.name} ({measured}). "
        f"{rounding} Equal scores of this export and the base would prove nothing. Use "
        "nf4-embedded or lora, which keep the delta exactly, or fp32."
    )


def base_weights_warning(weights: BaseWeights, base: Checkpoint, layout: Format) -> str | None:
    """A warning where an export stands on other weights than training had; None otherwise."""
    if not layout.standalone or base.is_4bit:
        return None
    dequantized = layout.stands_on_4_bits
    if not dequantized and weights.trained_on == "4bit":
        return (
            "Training had the base in 4 bits, and this export adds the delta to the 16-bit "
            "weights: it differs from the restored model by far more than the delta, and capture "
            "and residual say only that the delta was added. Leave --fold-onto at auto, or "
            "compare with --check-prompts."
        )
    if dequantized and weights.trained_on == "16bit":
        return (
            "The adapter was trained on 16-bit weights, and this export adds the delta to weights "
            "that went through 4 bits. What 4 bits do to the base is in none of the numbers here, "
            "which compare with the adapter on the base in 4 bits. bf16, fp16 and fp32 with "
            "--fold-onto auto stand on the weights of training."
        )
    return None


def rebuild_warnings(deltas: ModuleDeltas) -> Iterator[str]:
    """What speaks against the options by which the delta is rebuilt."""
    for doubt in deltas.doubts:
        yield f"This may not be the trained delta, and no measure here can show it: {doubt}."


def unused_warning(base: Checkpoint, architecture: Architecture, layout: Format) -> str | None:
    """A warning where the base holds tensors that its model does not use; None otherwise."""
    unused = unused_tensors(base, architecture)
    if not layout.standalone or not unused:
        return None
    return (
        f"{base.path.name} holds {len(unused)} tensors that the model of its config.json does not "
        f"use: {', '.join(unused[:3])}{', ...' if unused[3:] else ''}. They are carried into the "
        "export; if they belong to the model, config.json is another one's."
    )


def tokenizer_warning(base: Checkpoint, layout: Format) -> str | None:
    """A warning where a checkpoint will have no tokenizer; None otherwise."""
    if not layout.standalone or any((base.path / name).exists() for name in _TOKENIZER_FILES):
        return None
    return (
        f"{base.path.name} has none of {', '.join(_TOKENIZER_FILES)}: the export has no tokenizer "
        "either; copy the tokenizer's files into the base and export again."
    )


def identity_warning(model_id: str, base: Checkpoint) -> str | None:
    """A warning where nothing about the base says that it is the adapter's; None if it does.

    Args:
        model_id: Name of the base that the adapter was trained on, empty where it names none.
        base: The base.
    """
    if not model_id:
        return "The adapter names no base model. On another base than its own it is meaningless."
    wanted = _leaf(model_id)
    named = base.config.get("_name_or_path")
    origins = [*base.path.resolve().parts, named if isinstance(named, str) else ""]
    if any(_leaf(origin) == wanted for origin in origins):
        return None
    return (
        f"The artifact was trained on {model_id}; nothing in the base's name or config "
        "says that this is it. On another base the result is meaningless."
    )


def _leaf(model_id: str) -> str:
    """Last part of a hub id or path, hubs' spellings of it made equal.

    >>> _leaf("qwen/Qwen2.5-Coder-3B"), _leaf("models--Qwen--Qwen2.5-Coder-3B")
    ('qwen2.5-coder-3b', 'qwen2.5-coder-3b')
    """
    leaf = model_id.rstrip("/").rsplit("/", 1)[-1].rsplit("--", 1)[-1]
    return leaf.lower().replace("___", ".")
