"""The stage that compares predictions: the reference's texts in, ``token_level.jsonl`` out.

Every model is the float32 function that its files say, whatever the run computes in. The reference
runs first, then the control, and their predictions wait on the disk; every arm then runs on the
same batches. The reference is compared with itself by other arithmetic and, where that can be read,
with itself as the run computes (``repeats``).

A run that computes in float32 has that function in memory while it writes completions: then no
model is loaded twice (``measured_while_writing``).
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from evaluator.config.run_config import ArmConfig, ArmKind, RunConfig
from evaluator.errors import ModelError
from evaluator.generation.backend import LoadedModel
from evaluator.generation.backend_choice import backend_of
from evaluator.generation.checkpoints import Checkpoint
from evaluator.generation.prepare import Prepared
from evaluator.generation.processes import Processes
from evaluator.generation.stage import Meanwhile, open_model
from evaluator.progress import Progress
from evaluator.store.records import (
    GenerationRecord,
    Key,
    TokenRecord,
    append,
    read,
    repair,
    repeats,
    rewrite_sorted,
)
from evaluator.store.run_directory import RunDirectory
from evaluator.tokens.texts import (
    ScoredText,
    TextBatch,
    choose_texts,
    plan_repeat,
    plan_text_batches,
)
from tinylora.models.chat import load_tokenizer
from tinylora.models.predictions import KeptPredictions
from tinylora.models.token_divergence import kl_divergence, shift_agreement

_BYTES_PER_NUMBER = 4
_OF_BASE = "-base"  # after the name of a text


def spool_bytes(config: RunConfig, checkpoints: Mapping[str, Checkpoint]) -> int:
    """Room on the disk for what waits of predictions; ModelError where vocabularies differ."""
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
    waiting = 2 if _control(config) else 1
    numbers = checkpoints[reference.name].hidden or size or 0
    return waiting * config.token_level.max_tokens * numbers * _BYTES_PER_NUMBER


def has_all_arms(directory: RunDirectory, config: RunConfig) -> bool:
    """Whether the token level is there, for every arm on as many texts, or is not wanted."""
    reference = config.reference()
    if reference is None or not config.token_level.enabled:
        return True
    names = {*_own_ways(reference, config), *(arm.name for arm in _others(config))}
    count = Counter(arm for arm, *_ in read(directory.token_level, TokenRecord.from_row))
    return names <= count.keys() and len({count[name] for name in names}) == 1


def _own_ways(reference: ArmConfig, config: RunConfig) -> Sequence[str]:
    """Names of the reference's repeats; the last one where its own arithmetic can be read."""
    ways = repeats(reference.name)
    return ways if backend_of(reference, config).computes_logits else ways[:2]


def _others(config: RunConfig) -> list[ArmConfig]:
    """The arms that are compared with the reference."""
    able = (arm for arm in config.arms if backend_of(arm, config).gives_logits)
    return [arm for arm in able if arm is not config.reference()]


def measure_tokens(
    directory: RunDirectory,
    prepared: Prepared,
    generations: Sequence[GenerationRecord],
    progress: Progress,
) -> None:
    """Write the records that are missing, arm by arm, one model in memory at a time.

    Without a restored arm, or where it is switched off, nothing is done.
    """
    config = prepared.config
    reference = config.reference()
    if reference is None or not config.token_level.enabled:
        return
    texts = _texts(prepared, reference, {record.key: record for record in generations})
    records = _still_valid(directory.token_level, texts)
    again, folded, *computed = _own_ways(reference, config)
    arms = _others(config)
    names = [again, folded, *computed, *(arm.name for arm in arms)]
    if not all(_is_done(name, texts, records) for name in names):
        with _empty(directory.spool) as spool:
            kept = KeptPredictions(spool)
            against = _Reference(
                directory.token_level, texts, kept, records, progress, _control(config)
            )
            with open_model(reference, prepared, directory, as_stored=True) as model:
                against.begin(model, reference.name, again, folded)
            for name in computed:
                if not _is_done(name, texts, records):
                    with open_model(reference, prepared, directory) as model:
                        against.compare(name, model)
            missing = [arm for arm in arms if not _is_done(arm.name, texts, records)]
            control = against.control
            if missing and control and control not in missing:  # the others are held beside it
                missing.append(control)
            for arm in sorted(missing, key=lambda arm: arm is not control):
                progress(f"tokens {arm.name}", 0, len(texts))  # loading is part of it
                with open_model(arm, prepared, directory, as_stored=True) as model:
                    against.compare_arm(arm, model)
    keys = [(name, text.problem, text.sample) for name in names for text in texts]
    rewrite_sorted(directory.token_level, [records[key] for key in keys])


@contextmanager
def measured_while_writing(
    directory: RunDirectory, prepared: Prepared, processes: Processes, progress: Progress
) -> Iterator[Meanwhile | None]:
    """What measures each model that has just written its completions, for ``generate_share``.

    It writes the records that ``measure_tokens`` would, to the last digit, which makes those that
    are still missing. None where models are not the float32 functions of their files, or where the
    texts are not known until the end.
    """
    config, reference = prepared.config, prepared.config.reference()
    device = config.token_level.device
    if (
        reference is None
        or not config.token_level.enabled
        or config.compute_dtype != "float32"
        or device not in (None, config.device)
        or config.equivalence.looks > 1
        or processes.world > 1
        or not backend_of(reference, config).computes_logits
    ):
        yield None
        return
    begun: list[_Reference] = []
    with _empty(directory.spool) as spool:

        def measure(arm: ArmConfig, model: LoadedModel) -> None:
            if arm is reference:
                records = read(directory.generations, GenerationRecord.from_row)
                texts = _texts(prepared, reference, records)
                own = _still_valid(directory.token_level, texts)
                kept, control = KeptPredictions(spool), _control(config)
                against = _Reference(directory.token_level, texts, kept, own, progress, control)
                again, folded, as_run = _own_ways(reference, config)
                against.begin(model, reference.name, again, folded, as_run)
                begun.append(against)
            elif begun and backend_of(arm, config).computes_logits:
                begun[0].compare_arm(arm, model)

        yield measure


def _texts(
    prepared: Prepared, reference: ArmConfig, generations: Mapping[Key, GenerationRecord]
) -> tuple[ScoredText, ...]:
    return choose_texts(
        reference.name,
        prepared.prompts,
        generations,
        load_tokenizer(prepared.checkpoints[reference.name].directory),
        prepared.config.decoding.max_new_tokens,
        prepared.config.token_level.max_tokens,
    )


@dataclass
class _Reference:
    """The reference's predictions on all texts, the control's, and what was found beside them."""

    path: Path
    texts: Sequence[ScoredText]
    kept: KeptPredictions
    records: dict[Key, TokenRecord]
    progress: Progress
    control: ArmConfig | None
    control_kept: bool = False

    def begin(self, model: LoadedModel, name: str, again: str, folded: str, *as_run: str) -> None:
        """Keep the reference's own predictions, and compare it with itself; folds its adapter."""
        self.keep(name, model)
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

    def keep(self, name: str, model: LoadedModel) -> None:
        """Write the reference's own predictions."""
        done = 0
        for batch in plan_text_batches(self.texts):
            self.progress(f"tokens {name}", done, len(self.texts))
            for text, found in zip(batch, model.predict(batch), strict=True):
                self.kept.keep(text.file_name, found)
            done += len(batch)
        self.progress(f"tokens {name}", done, done)

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
            if keep or not _is_done(name, batch, self.records):
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


def _control(config: RunConfig) -> ArmConfig | None:
    """The first base arm, if its logits can be had."""
    bases = [arm for arm in config.arms if arm.kind is ArmKind.BASE]
    return bases[0] if bases and backend_of(bases[0], config).gives_logits else None


def _is_done(name: str, texts: Sequence[ScoredText], records: Mapping[Key, TokenRecord]) -> bool:
    return all((name, text.problem, text.sample) in records for text in texts)


def _still_valid(path: Path, texts: Sequence[ScoredText]) -> dict[Key, TokenRecord]:
    """The records of these very tokens; others are of an earlier configuration, and go."""
    repair(path)
    records = read(path, TokenRecord.from_row)
    digests = {(text.problem, text.sample): text.digest for text in texts}
    valid = {
        key: record
        for key, record in records.items()
        if digests.get(key[1:]) == record.tokens_sha256
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
