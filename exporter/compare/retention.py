"""How much of the adapter's effect on the next token survives in an export, token by token.

On the same tokens, in float32 or float64 (:mod:`tinylora.models.token_divergence`)::

    retention = 1 − mean KL(restored‖export) / mean KL(restored‖base)

Two floors stand beside it, what other arithmetic of that width does to an equal model and what
serving in half precision does. An adapter whose effect lies below the first cannot be seen at all;
below the second, it drowns in the arithmetic of most servers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporter.compare.float32_model import batches, load_exact, restored_model
from exporter.compare.prompts import PromptSet, TokenPrompt
from exporter.errors import FoldError
from exporter.fidelity import rounded
from tinylora import AdaptedLinear, DeltaOptions, FactorStore, Restoration
from tinylora.files.scratch import scratch_directory
from tinylora.models.float32_view import in_float32
from tinylora.models.predictions import KeptPredictions, predict
from tinylora.models.token_divergence import (
    Kept,
    as_if_kept,
    kept,
    kl_divergence,
    summarize_kl,
    visible,
)
from tinylora.workers import single_threaded


@dataclass(frozen=True)
class Divergence:
    """How far a model's predictions are from the restored model's.

    Attributes:
        mean: Mean KL(restored‖model) over the tokens, nats; beside it percentile and maximum.
        top1_agreement: Share of tokens at which both predict the same next token.
        logit_distance: Root of the summed squared differences of logits.
    """

    mean: float
    p99: float
    largest: float
    top1_agreement: float
    logit_distance: float


# Below this a mean over tokens says little: a prompt and its completion have hundreds.
_FEW_TOKENS = 200


@dataclass(frozen=True)
class Retention:
    """The export and the base beside the restored model, on the same tokens.

    Attributes:
        tokens: Number of compared predictions.
        base: Of the base, without the adapter.
        repeat: Of the restored model itself, run in other batches.
        folded: Of the restored model with its delta added to dense weights.
        bfloat16: Of the restored model computed in bfloat16.
        arithmetic: What all but the last were computed in, float32 or float64.
    """

    prompts_sha256: str
    tokens: int
    export: Divergence
    base: Divergence
    repeat: Divergence
    folded: Divergence
    bfloat16: Divergence
    arithmetic: str = "float32"

    @property
    def floor(self) -> float:
        """Mean KL of equal models by other arithmetic, nats."""
        return max(self.repeat.mean, self.folded.mean)

    @property
    def kept(self) -> Kept | None:
        """How much of the effect was kept; None where effect or loss could not be seen."""
        return kept(self.export.mean, self.base.mean, self.floor)

    @property
    def value(self) -> float | None:
        """1 − KL(restored‖export)/KL(restored‖base); None where ``kept`` is None."""
        return self.kept.retention if self.kept else None

    @property
    def output_residual(self) -> float | None:
        """‖logits(export) − logits(restored)‖ / ‖logits(base) − logits(restored)‖."""
        if self.base.logit_distance == 0:
            return None
        return self.export.logit_distance / self.base.logit_distance

    @property
    def visible(self) -> bool:
        """Whether the adapter changes predictions by more than float rounding does."""
        return visible(self.base.mean, self.floor)

    @property
    def visible_in_half_precision(self) -> bool:
        """Whether it changes them by more than computing in bfloat16 does."""
        return self.base.mean > self.bfloat16.mean

    @property
    def rows(self) -> tuple[tuple[str, Divergence], ...]:
        """Each model that stands beside the restored one, by its name in tables."""
        return (
            ("this export", self.export),
            ("the base, without the adapter", self.base),
            ("the restored model again, other batches", self.repeat),
            (f"the restored model, folded in {self.arithmetic}", self.folded),
            ("the restored model in bfloat16", self.bfloat16),
        )

    def shortfall(self, wanted: float) -> str | None:
        """Why it is not shown that an export keeps a share of the effect; None where it is."""
        if self.kept is None:
            return f"a retention of {wanted:g} is required. {self.sentence}"
        shown = self.kept.retention if self.kept.loss_seen else self.kept.at_least
        if shown < wanted:
            return f"retention {shown:.4g}, {wanted:g} is required"
        return None

    @property
    def sentence(self) -> str:
        """What follows, in plain words."""
        if self.kept is None:
            finer = self.arithmetic == "float32" and self.base.mean > 0
            return (
                f"The adapter's effect (mean KL {self.base.mean:.3g} nats a token) is too near "
                f"what {self.arithmetic} arithmetic does to equal models ({self.floor:.3g}): on "
                "these texts nothing can be said about its retention"
                f"{'; verify --float64 sees smaller effects' if finer else ''}."
            )
        if self.kept.loss_seen:
            text = (
                f"Retention {self.kept.retention:.4f} on {self.tokens} tokens, as if "
                f"{100 * as_if_kept(self.kept.retention):.1f} % of the adapter's change had been "
                "kept (KL grows with its square)"
            )
        else:
            text = (
                f"No loss can be seen on {self.tokens} tokens: the export is no farther from the "
                "restored model than other arithmetic puts that itself, and at most "
                f"{100 * (1 - self.kept.at_least):.2g} % of the effect is lost"
            )
        text += (
            f"; the logits miss those of the restored model by {self.output_residual:.3g} of the "
            "adapter's effect."
        )
        if self.tokens < _FEW_TOKENS:
            text += " So few tokens say little; give more texts."
        if not self.visible_in_half_precision:
            text += (
                f" The adapter's effect (mean KL {self.base.mean:.3g}) is smaller than what "
                f"computing in bfloat16 does ({self.bfloat16.mean:.3g})."
            )
        return text

    def as_dict(self) -> dict[str, Any]:
        """For the manifest; floats to six digits."""
        found: dict[str, Any] = {
            "prompts_sha256": self.prompts_sha256,
            "tokens": self.tokens,
            "arithmetic": self.arithmetic,
            "retention": rounded(self.value, 6),
            "kept_at_least": rounded(self.kept.at_least if self.kept else None, 6),
            "loss_seen": self.kept and self.kept.loss_seen,
            "output_residual": rounded(self.output_residual, 6),
            "visible": self.visible,
            "visible_in_half_precision": self.visible_in_half_precision,
        }
        for name in ("export", "base", "repeat", "folded", "bfloat16"):
            numbers = vars(getattr(self, name))
            found[name] = {key: rounded(value, 6) for key, value in numbers.items()}
        return found


def measure_retention(
    export: Path,
    base: Path,
    artifact: Path,
    options: DeltaOptions,
    prompts: PromptSet,
    store: FactorStore | None = None,
    *,
    in_4_bits: bool = True,
    float64: bool = False,
) -> Retention:
    """Run base, restored model and export on the same texts.

    One model is in memory at a time, in float32 or ``float64``, and the restored model's output
    layer; what that reads is kept on disk meanwhile, its factors in ``store``.
    """
    with scratch_directory("retention") as directory, single_threaded():
        reference = Reference(directory, prompts.prompts)
        # the restored model is built three times, its factors are computed once
        build = partial(
            restored_model,
            base,
            artifact,
            options,
            in_4_bits=in_4_bits,
            store=store or FactorStore(directory / "factors"),
        )
        beside = beside_restored(reference, build, prompts, float64=float64)
        exported = computed_in(beside.arithmetic, load_exact(export))
        return replace(beside, export=reference.distance(exported))


def beside_restored(
    reference: "Reference",
    build: Callable[[], tuple[Any, Restoration]],
    prompts: PromptSet,
    *,
    float64: bool = False,
) -> Retention:
    """Keep the restored model's predictions, and measure all that stands beside it but an export.

    ``build`` makes the restored model, once for each use. The base stands for the export.
    """
    arithmetic = "float64" if float64 else "float32"
    view = partial(computed_in, arithmetic)
    model, restoration = build()
    reference.keep(view(model))
    repeat = reference.distance(model, one_by_one=True)
    restoration.fold()
    folded = reference.distance(model)
    del model, restoration  # one model is in memory at a time
    model, restoration = build()
    restoration.remove()
    base = reference.distance(view(model))
    del model, restoration
    half = reference.distance(computed_in("bfloat16", build()[0]))
    return Retention(prompts.sha256, prompts.tokens, base, base, repeat, folded, half, arithmetic)


def computed_in(arithmetic: str, model: Any) -> Any:
    """The float32 view of a model, computed in float32, float64 or bfloat16; in place."""
    in_float32(model).eval()
    adapters = (module for module in model.modules() if isinstance(module, AdaptedLinear))
    wide = {id(factor) for module in adapters for factor in module.parameters(recurse=False)}
    for parameter in model.parameters():  # buffers and the adapter's own factors stay as wide
        if id(parameter) not in wide:
            parameter.data = parameter.data.to(getattr(torch, arithmetic))
    return model


class Reference:
    """Predictions of one model, which others are compared with, kept in ``directory``."""

    def __init__(self, directory: Path, prompts: tuple[TokenPrompt, ...]) -> None:
        self._kept = KeptPredictions(directory)
        self._prompts = prompts

    def keep(self, model: Any) -> None:
        """Run the model that is compared with."""
        found = (one for batch in batches(self._prompts) for one in predict(model, batch))
        for number, one in enumerate(found):
            self._kept.keep(str(number), one)

    def distance(self, model: Any, one_by_one: bool = False) -> Divergence:
        """How far another model is from it; ``one_by_one``: not in the batches of :meth:`keep`.

        Raises:
            FoldError: The logits of one of them are not finite.
        """
        kl: list[Tensor] = []
        same, squared = 0, []
        groups = [[p] for p in self._prompts] if one_by_one else batches(self._prompts)
        others = (one.logits for group in groups for one in predict(model, group))
        for number, other in enumerate(others):
            logits = self._kept.load(str(number))
            kl.append(kl_divergence(logits, other))
            same += int((logits.argmax(dim=1) == other.argmax(dim=1)).sum())
            squared.append(float((logits - other).double().square().sum()))
        total = summarize_kl(torch.cat(kl).tolist())
        if not math.isfinite(total.mean):
            raise FoldError(
                "on the texts the logits are not finite: base or adapter has numbers that are too "
                "large to compute with; is the file damaged?"
            )
        return Divergence(
            mean=total.mean,
            p99=total.p99,
            largest=total.largest,
            top1_agreement=same / total.tokens,
            logit_distance=math.sqrt(math.fsum(squared)),
        )
