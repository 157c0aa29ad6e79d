"""Warnings in plain words, for the screen, the model card and the manifest."""

from collections.abc import Iterator

from exporter.base.carried_files import TOKENIZER_FILES, side_files
from exporter.base.check import unused_tensors
from exporter.choose.trials import Choice
from exporter.compare.retention import Retention
from exporter.fidelity import KEPT_RESIDUAL, LOST_RESIDUAL, FidelityReport
from exporter.prepare import Prepared

LOST = "THE DELTA WAS LOST"


def warnings_of(
    export: Prepared, fidelity: FidelityReport, retention: Retention | None
) -> tuple[str, ...]:
    """What the user must know of an export, in plain words."""
    doubts = (
        f"This may not be the trained delta, and no measure here can show it: {doubt}."
        for doubt in export.inputs.deltas.doubts
    )
    about_base = _about_base(export) if export.request.layout.standalone else ()
    about_delta = _about_fidelity(export, fidelity, output_residual(export.choice, retention))
    about_goal = _about_goal(export.request.target_residual, retention)
    return (*_about_identity(export), *doubts, *about_base, *about_delta, *about_goal)


def output_residual(choice: Choice | None, retention: Retention | None) -> float | None:
    """What the export's output misses of the adapter's effect; None where no texts show it."""
    if retention is not None and retention.kept is not None:
        return retention.output_residual
    if choice is not None and choice.measured_on == "output":
        return choice.chosen.residual
    return None


def _about_fidelity(
    export: Prepared, fidelity: FidelityReport, on_texts: float | None
) -> Iterator[str]:
    """What became of a delta that did not survive."""
    name = export.request.format
    total, verdict = fidelity.total, fidelity.verdict
    if verdict == "empty":
        yield "The artifact's delta is zero: this export is the base."
        return
    if on_texts <= KEPT_RESIDUAL if on_texts is not None else verdict == "kept":
        return
    assert total.capture is not None and total.residual is not None
    measured = f"capture {total.capture:.3g}, residual {total.residual:.3g}"
    if on_texts is not None and on_texts >= LOST_RESIDUAL:
        yield (
            f"{LOST}: on the texts the logits miss those of the restored model by {on_texts:.3g} "
            f"of the adapter's effect, the base's by 1. That counts here, not the weights "
            f"({measured}). Use nf4-embedded or lora, which keep the delta exactly."
        )
    elif on_texts is not None:
        yield (
            f"Part of the adapter's effect was lost in rounding to {name}: on the texts the logits "
            f"miss those of the restored model by {on_texts:.3g} of it. That counts here, not the "
            f"weights ({measured}); nf4-embedded and lora keep all of it."
        )
    elif export.request.is_calibrated:
        yield (
            "Codes were chosen for what the model computes, not to be near the wanted weights, so "
            f"these say little here ({measured}); the retention, from --check-prompts or "
            "verify --prompts, says it."
        )
    elif verdict == "partly kept":
        yield (
            f"Part of the delta was lost in rounding to {name} ({measured}); nf4-embedded "
            "and lora keep all of it."
        )
    else:
        rounding = (
            "What was stored is rounding noise larger than the delta."
            if total.residual > 1
            else "The stored weights are, but for little, those of the base."
        )
        yield (
            f"{LOST}: it is smaller than the steps of {name} ({measured}). "
            f"{rounding} Equal scores of this export and the base would prove nothing. Use "
            "nf4-embedded or lora, which keep the delta exactly, or fp32."
        )


def _about_goal(target: float | None, retention: Retention | None) -> Iterator[str]:
    found = None if retention is None else retention.output_residual
    if target is not None and found is not None and found > target:
        yield (
            f"On the texts of --check-prompts the output residual is {found:.3g}, above the target "
            f"{target:g} that the choice reached on its own texts; aim lower, or calibrate on more."
        )


def _about_base(export: Prepared) -> Iterator[str]:
    """It may be another one than training had, or lack something, or have too much."""
    inputs, layout = export.inputs, export.request.layout
    on_4_bits = layout.stands_on_4_bits
    base, trained_on = inputs.base, inputs.weights.trained_on
    if not base.is_4bit and not on_4_bits and trained_on == "4bit":
        yield (
            "Training had the base in 4 bits, and this export adds the delta to the 16-bit "
            "weights: it differs from the restored model by far more than the delta, and capture "
            "and residual say only that the delta was added. Leave --fold-onto at auto, or "
            "compare with --check-prompts."
        )
    if not base.is_4bit and on_4_bits and trained_on == "16bit":
        yield (
            "The adapter was trained on 16-bit weights, and this export adds the delta to weights "
            "that went through 4 bits. What 4 bits do to the base is in none of the numbers here, "
            "which compare with the adapter on the base in 4 bits. bf16, fp16 and fp32 with "
            "--fold-onto auto stand on the weights of training."
        )
    if unused := unused_tensors(base, inputs.architecture):
        carried = "carried" if layout.for_transformers else "not carried"
        yield (
            f"{base.path.name} holds {len(unused)} tensors that the model of its config.json does "
            f"not use: {', '.join(unused[:3])}{', ...' if unused[3:] else ''}. They are {carried} "
            "into the export; if they belong to the model, config.json is another one's."
        )
    if own := inputs.architecture.own_heads:
        says = "; the config.json of this export says tie_word_embeddings: false"
        yield (
            f"{base.path.name}: config.json ties {', '.join(own)} to the embedding, and the files "
            "have other values for it, which count, as for transformers"
            f"{says if layout.for_transformers else ''}."
        )
    if left_out := side_files(base.path, frozenset(base.files)).left_out:
        yield (
            f"Left out of the export: {', '.join(left_out[:20])}{', ...' if left_out[20:] else ''} "
            "(weights in other files, unfinished downloads, large files of unknown kinds)."
        )
    if not any((base.path / name).exists() for name in TOKENIZER_FILES):
        yield (
            f"{base.path.name} has none of {', '.join(TOKENIZER_FILES)}: the export has no "
            "tokenizer either; copy the tokenizer's files into the base and export again."
        )


def _about_identity(export: Prepared) -> Iterator[str]:
    """Nothing about the base may say that it is the adapter's."""
    model_id, base = export.inputs.adapter.model_id, export.inputs.base
    named = base.config.get("_name_or_path")
    origins = [*base.path.resolve().parts, named if isinstance(named, str) else ""]
    if not model_id:
        yield "The adapter names no base model. On another base than its own it is meaningless."
    elif not any(_leaf(origin) == _leaf(model_id) for origin in origins):
        yield (
            f"The artifact was trained on {model_id}; nothing in the base's name or config "
            "says that this is it. On another base the result is meaningless."
        )


def _leaf(model_id: str) -> str:
    """Last part of a hub id or path, hubs' spellings of it made equal."""
    leaf = model_id.rstrip("/").rsplit("/", 1)[-1].rsplit("--", 1)[-1]
    return leaf.lower().replace("___", ".")
