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
from dataclasses import dataclass
from pathlib import Path

import torch

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
    read,
    repeats,
    rewrite_sorted,
)
from evaluator.store.run_directory import RunDirectory
from evaluator.tokens.reference import Reference, is_done
from evaluator.tokens.texts import ScoredText, choose_texts
from tinylora.models.chat import load_tokenizer
from tinylora.models.predictions import KeptPredictions

_BYTES_PER_NUMBER = 4


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
    made = {record.key: record for record in generations}
    against = _against(reference, directory, prepared, made, progress)
    texts, records, control = against.texts, against.records, against.control
    again, folded, *computed = _own_ways(reference, config)
    arms = _others(config)
    names = [again, folded, *computed, *(arm.name for arm in arms)]
    if not all(is_done(name, texts, records) for name in names):
        with _empty(directory.spool):
            with open_model(reference, prepared, directory, as_stored=True) as model:
                against.begin(model, reference.name, again, folded)
            for name in computed:
                if not is_done(name, texts, records):
                    with open_model(reference, prepared, directory) as model:
                        against.compare(name, model)
            missing = [arm for arm in arms if not is_done(arm.name, texts, records)]
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
    with _empty(directory.spool):
        yield _WhileWriting(reference, directory, prepared, progress)


@dataclass
class _WhileWriting:
    """Measures models as they come, the reference first, until one cannot be measured."""

    reference: ArmConfig
    directory: RunDirectory
    prepared: Prepared
    progress: Progress
    against: Reference | None = None

    def __call__(self, arm: ArmConfig, model: LoadedModel) -> None:
        config = self.prepared.config
        try:
            if arm is self.reference:
                self._begin(model)
            elif self.against and backend_of(arm, config).computes_logits:
                self.against.compare_arm(arm, model)
        except (torch.OutOfMemoryError, ModelError):
            self.against = None  # afterwards there is more room, and all arms have written

    def _begin(self, model: LoadedModel) -> None:
        made = read(self.directory.generations, GenerationRecord.from_row)
        against = _against(self.reference, self.directory, self.prepared, made, self.progress)
        ways = _own_ways(self.reference, self.prepared.config)
        against.begin(model, self.reference.name, *ways)
        self.against = against


def _against(
    reference: ArmConfig,
    directory: RunDirectory,
    prepared: Prepared,
    generations: Mapping[Key, GenerationRecord],
    progress: Progress,
) -> Reference:
    """What models are held beside: nothing is predicted yet, records of these texts stay."""
    config, path = prepared.config, directory.token_level
    texts = choose_texts(
        reference.name,
        prepared.prompts,
        generations,
        load_tokenizer(prepared.checkpoints[reference.name].directory),
        config.decoding.max_new_tokens,
        config.token_level.max_tokens,
    )
    kept, records = KeptPredictions(directory.spool), _still_valid(path, texts)
    return Reference(path, texts, kept, records, progress, _control(config))


def _control(config: RunConfig) -> ArmConfig | None:
    """The first base arm, if its logits can be had."""
    bases = [arm for arm in config.arms if arm.kind is ArmKind.BASE]
    return bases[0] if bases and backend_of(bases[0], config).gives_logits else None


def _still_valid(path: Path, texts: Sequence[ScoredText]) -> dict[Key, TokenRecord]:
    """The records of these very tokens; others are of an earlier configuration, and go."""
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
def _empty(path: Path) -> Iterator[None]:
    """A directory that is empty now and gone afterwards; a killed run may have left one."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(path)
