"""The stage that compares predictions: the reference's texts in, ``token_level.jsonl`` out.

The reference runs first, and its logits wait on the disk; every arm then runs on the same batches.
The reference is compared with its own repeat in other batches: the noise floor of company, padding
and rounding. A killed run goes on with the missing texts; the reference's logits are made again.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from evaluator.config.run_config import ArmConfig, RunConfig
from evaluator.errors import ModelError
from evaluator.generation.backend import LoadedModel
from evaluator.generation.checkpoints import Checkpoint
from evaluator.generation.device import resolve_device
from evaluator.generation.prompts import Prompt
from evaluator.generation.stage import open_model
from evaluator.progress import Progress
from evaluator.store.records import GenerationRecord, Key, append, read, repair, rewrite_sorted
from evaluator.store.run_directory import RunDirectory
from evaluator.tokens.records import TokenRecord
from evaluator.tokens.texts import (
    ScoredText,
    TextBatch,
    choose_texts,
    plan_repeat,
    plan_text_batches,
)
from tinylora.models.batches import TensorSpool
from tinylora.models.chat import load_tokenizer
from tinylora.models.token_divergence import kl_divergence

_BYTES_PER_LOGIT = 4


def spool_bytes(config: RunConfig, checkpoints: Mapping[str, Checkpoint]) -> int:
    """Room on the disk for the reference's logits; ModelError where vocabularies differ."""
    reference = config.reference()
    if reference is None or not config.token_level.enabled:
        return 0
    size = checkpoints[reference.name].vocabulary
    for name, checkpoint in checkpoints.items():
        if None not in (size, checkpoint.vocabulary) and checkpoint.vocabulary != size:
            raise ModelError(
                f"arm {name} has vocab_size {checkpoint.vocabulary}, arm {reference.name} has "
                f"{size}: their predictions cannot be compared. Set token_level.enabled: false, "
                "or export again from the same base"
            )
    return config.token_level.max_tokens * (size or 0) * _BYTES_PER_LOGIT


def measure_tokens(
    directory: RunDirectory,
    config: RunConfig,
    checkpoints: Mapping[str, Checkpoint],
    prompts: Sequence[Prompt],
    generations: Sequence[GenerationRecord],
    progress: Progress,
) -> None:
    """Write the records that are missing, arm by arm, one model in memory at a time.

    Without a restored arm, or where it is switched off, nothing is done.

    Raises:
        ModelError: A model cannot be loaded, or its predictions cannot be compared.
        GenerationError: A model's logits are not numbers.
        RecordsError: ``token_level.jsonl`` is damaged.
    """
    reference = config.reference()
    if reference is None or not config.token_level.enabled:
        return
    texts = choose_texts(
        reference.name,
        prompts,
        {record.key: record for record in generations},
        load_tokenizer(checkpoints[reference.name].directory),
        config.decoding.max_new_tokens,
        config.token_level.max_tokens,
    )
    stage = _Stage(directory, config, checkpoints, texts, progress)
    if not all(stage.is_done(arm, texts) for arm in config.arms):
        with _empty(directory.spool) as spool:
            logits = TensorSpool(spool)
            stage.run_reference(reference, logits)
            for arm in config.arms:
                if not stage.is_done(arm, texts):
                    stage.run_arm(arm, logits)
    stage.sort()


class _Stage:
    """The records so far, and what adds to them."""

    def __init__(
        self,
        directory: RunDirectory,
        config: RunConfig,
        checkpoints: Mapping[str, Checkpoint],
        texts: Sequence[ScoredText],
        progress: Progress,
    ) -> None:
        self._directory, self._config, self._checkpoints = directory, config, checkpoints
        self._texts, self._progress = texts, progress
        self._batches = plan_text_batches(texts)
        self._records = _still_valid(directory.token_level, texts)

    def is_done(self, arm: ArmConfig, texts: Sequence[ScoredText]) -> bool:
        """Whether an arm's records of these texts are there."""
        return all((arm.name, text.problem, text.sample) in self._records for text in texts)

    def run_reference(self, arm: ArmConfig, logits: TensorSpool) -> None:
        """Keep the reference's logits, and compare it with its repeat in other batches."""
        kept, total = 0, 2 * len(self._texts)
        with self._loaded(arm) as model:
            for batch in self._batches:
                self._progress(f"tokens {arm.name}", kept, total)
                for text, found in zip(batch, model.logits(batch), strict=True):
                    logits.keep(text.file_name, found)
                kept += len(batch)
            self._compare(arm, model, plan_repeat(self._texts), logits, kept)

    def run_arm(self, arm: ArmConfig, logits: TensorSpool) -> None:
        """Compare another arm with the reference, in the batches of the latter."""
        with self._loaded(arm) as model:
            self._compare(arm, model, self._batches, logits, 0)

    def sort(self) -> None:
        """Bring the finished file into the order of arms and problems."""
        ordered = [
            self._records[arm.name, text.problem, text.sample]
            for arm in self._config.arms
            for text in self._texts
        ]
        rewrite_sorted(self._directory.token_level, ordered)

    def _compare(
        self,
        arm: ArmConfig,
        model: LoadedModel,
        batches: Sequence[TextBatch],
        logits: TensorSpool,
        before: int,
    ) -> None:
        """Append the missing records; ``before`` is what the bar shows as done already."""
        done, total = before, before + len(self._texts)
        for batch in batches:
            self._progress(f"tokens {arm.name}", done, total)
            done += len(batch)
            if self.is_done(arm, batch):
                continue
            made = _records_of(arm.name, model, batch, logits)
            append(
                self._directory.token_level, [one for one in made if one.key not in self._records]
            )
            self._records.update((record.key, record) for record in made)
        self._progress(f"tokens {arm.name}", total, total)

    def _loaded(self, arm: ArmConfig) -> AbstractContextManager[LoadedModel]:
        config, checkpoint = self._config, self._checkpoints[arm.name]
        return open_model(arm, config, checkpoint, self._directory, resolve_device(config.device))


def _records_of(
    arm: str, model: LoadedModel, batch: TextBatch, logits: TensorSpool
) -> list[TokenRecord]:
    made = []
    for text, other in zip(batch, model.logits(batch), strict=True):
        reference = logits.load(text.file_name, other.device)
        if reference.shape != other.shape:
            raise ModelError(
                f"arm {arm}: predicts over {other.shape[1]} tokens, the reference over "
                f"{reference.shape[1]}: they cannot be compared. Set token_level.enabled: false"
            )
        made.append(
            TokenRecord(
                arm=arm,
                problem=text.problem,
                sample=text.sample,
                tokens_sha256=text.digest,
                same=int((reference.argmax(dim=1) == other.argmax(dim=1)).sum()),
                kl=tuple(float(f"{kl:.6g}") for kl in kl_divergence(reference, other).tolist()),
            )
        )
    return made


def _still_valid(path: Path, texts: Sequence[ScoredText]) -> dict[Key, TokenRecord]:
    """The records of these very tokens; others are of an earlier configuration, and go."""
    repair(path)
    records = read(path, TokenRecord.from_row)
    digests = {(text.problem, text.sample): text.digest for text in texts}
    valid = {
        key: record
        for key, record in records.items()
        if digests.get((record.problem, record.sample)) == record.tokens_sha256
    }
    if len(valid) < len(records):
        rewrite_sorted(path, valid.values())
    return valid


@contextmanager
def _empty(path: Path) -> Iterator[Path]:
    """A directory that is empty now and gone afterwards; a killed run may have left one."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path)
