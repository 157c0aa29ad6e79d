"""The reference's predictions on texts, kept on the disk, and other models held beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from evaluator.config.run_config import ArmConfig
from evaluator.errors import ModelError
from evaluator.generation.backend import LoadedModel
from evaluator.progress import Progress
from evaluator.store.records import Key, TokenRecord, append
from evaluator.tokens.texts import ScoredText, TextBatch, plan_repeat, plan_text_batches
from tinylora.models.predictions import KeptPredictions
from tinylora.models.token_divergence import kl_divergence, shift_agreement

_OF_BASE = "-base"  # after the name of a text


@dataclass
class Reference:
    """The reference's predictions on all texts, the control's, and what was found beside them."""

    name: str
    path: Path
    texts: Sequence[ScoredText]
    kept: KeptPredictions
    records: dict[Key, TokenRecord]
    progress: Progress
    control: ArmConfig | None
    control_kept: bool = False

    def begin(self, model: LoadedModel, again: str, folded: str, *as_run: str) -> None:
        """Keep the reference's own predictions, and compare it with itself; folds its adapter."""
        done = 0
        for batch in plan_text_batches(self.texts):
            self.progress(f"tokens {self.name}", done, len(self.texts))
            for text, found in zip(batch, model.predict(batch), strict=True):
                self.kept.keep(text.file_name, found)
            done += len(batch)
        self.progress(f"tokens {self.name}", done, done)
        self.compare(again, model, batches=plan_repeat(self.texts))
        for own in as_run:
            self.compare(own, model)
        model.fold()
        self.compare(folded, model)

    def compare_arm(self, arm: ArmConfig, model: LoadedModel) -> None:
        """Append the records of an arm, which stand beside the control's: it has to come first."""
        if arm is self.control:
            self.compare(arm.name, model, keep=True)
            self.control_kept = True
        elif self.control is None or self.control_kept:
            self.compare(arm.name, model, beside_base=self.control is not None)

    def compare(
        self,
        name: str,
        model: LoadedModel,
        *,
        batches: Sequence[TextBatch] | None = None,
        keep: bool = False,
        beside_base: bool = False,
    ) -> None:
        """Append a model's missing records; ``keep`` its predictions as the base's."""
        done = 0
        for batch in batches or plan_text_batches(self.texts):
            self.progress(f"tokens {name}", done, len(self.texts))
            done += len(batch)
            if keep or not is_done(name, batch, self.records):
                made = []
                for text, other in zip(batch, model.predict(batch), strict=True):
                    made.append(self._compared(name, text, other.logits, beside_base))
                    if keep:
                        self.kept.keep(f"{text.file_name}{_OF_BASE}", other)
                append(self.path, [one for one in made if one.key not in self.records])
                self.records.update((one.key, one) for one in made if one.key not in self.records)
        self.progress(f"tokens {name}", done, done)

    def _compared(
        self, name: str, text: ScoredText, other: Tensor, beside_base: bool
    ) -> TokenRecord:
        reference = self.kept.load(text.file_name, other.device)
        if reference.shape != other.shape:
            raise ModelError(
                f"arm {name}: predicts over {other.shape[1]} tokens, the reference over "
                f"{reference.shape[1]}: they cannot be compared. Set token_level.enabled: false"
            )
        same = int((reference.argmax(dim=1) == other.argmax(dim=1)).sum())
        record = TokenRecord(
            arm=name,
            problem=text.problem,
            sample=text.sample,
            tokens_sha256=text.digest,
            same=same,
            kl=_six_digits(kl_divergence(reference, other)),
        )
        if not beside_base:
            return record
        base = self.kept.load(f"{text.file_name}{_OF_BASE}", other.device)
        cosine, signs = shift_agreement(reference, other, base)
        (share,) = _six_digits(signs.mean().reshape(1))
        return replace(record, shift_cosine=_six_digits(cosine), shift_signs=share)


def _six_digits(values: Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())


def is_done(name: str, texts: Sequence[ScoredText], records: Mapping[Key, TokenRecord]) -> bool:
    """Whether an arm has the records of all these texts."""
    return all((name, text.problem, text.sample) in records for text in texts)
