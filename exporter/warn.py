"""Warnings in plain words, for the screen, the model card and the manifest."""

from exporter.checkpoint import Checkpoint
from exporter.fidelity import FidelityReport
from exporter.formats import Format
from tinylora import Artifact


def fidelity_warning(fidelity: FidelityReport, layout: Format) -> str | None:
    """What the user must know about a delta that did not survive; None where it did."""
    total, verdict = fidelity.total, fidelity.verdict
    if verdict == "kept":
        return None
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


def identity_warning(artifact: Artifact, base: Checkpoint) -> str | None:
    """A warning where nothing about the base says that it is the artifact's; None if it does."""
    wanted = _leaf(artifact.model_id)
    named = base.config.get("_name_or_path")
    origins = [*base.path.resolve().parts, named if isinstance(named, str) else ""]
    if any(_leaf(origin) == wanted for origin in origins):
        return None
    return (
        f"The artifact was trained on {artifact.model_id}; nothing in the base's name or config "
        "says that this is it. On another base the result is meaningless."
    )


def _leaf(model_id: str) -> str:
    """Last part of a hub id or path, hubs' spellings of it made equal.

    >>> _leaf("qwen/Qwen2.5-Coder-3B"), _leaf("models--Qwen--Qwen2.5-Coder-3B")
    ('qwen2.5-coder-3b', 'qwen2.5-coder-3b')
    """
    leaf = model_id.rstrip("/").rsplit("/", 1)[-1].rsplit("--", 1)[-1]
    return leaf.lower().replace("___", ".")
