"""The stage that compares predictions: the reference's texts in, ``token_level.jsonl`` out.

Every model is the float32 function that its files say, whatever the run computes in. The reference
runs first, then the control, and their predictions wait on the disk; every arm then runs on the
same batches. The reference is compared with itself by other arithmetic and, where that can be read,
with itself as the run computes (``repeats``).

A run that computes in float32 has that function in memory while it writes completions: then no
model is loaded twice.
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
from evaluator.generation.backends import backend_of
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


@contextmanager
def token_stage(
    directory: RunDirectory, prepared: Prepared, progress: Progress
) -> Iterator["TokenStage"]:
    """The stage of a run; what waits on the disk goes with it, also what a killed run left."""
    shutil.rmtree(directory.spool, ignore_errors=True)
    directory.spool.mkdir()
    try:
        yield TokenStage(directory, prepared, progress)
    finally:
        shutil.rmtree(directory.spool)


@dataclass
class TokenStage:
    """Models are measured while they write, as far as that can be, and the others loaded for it."""

    directory: RunDirectory
    prepared: Prepared
    progress: Progress
    against: Reference | None = None  # once the reference was measured

    def while_writing(self, processes: Processes) -> Meanwhile | None:
        """What measures each model that has just written its completions, for ``generate_share``.

        It writes the records that ``finish`` would, to the last digit. None where models are not
        the float32 functions of their files, or where the texts are not known until the end.
        """
        config, reference = self.prepared.config, self.prepared.config.reference()
        can = (
            reference is not None
            and config.token_level.enabled
            and config.compute_dtype == "float32"
            and config.token_level.device in (None, config.device)
            and config.equivalence.looks == 1
            and processes.world == 1
            and backend_of(reference, config).computes_logits
        )
        return self._measure if can else None

    def _measure(self, arm: ArmConfig, model: LoadedModel) -> None:
        config = self.prepared.config
        try:
            if arm is config.reference():
                made = read(self.directory.generations, GenerationRecord.from_row)
                against = self._against(arm, self.prepared, made)
                against.begin(model, *_own_ways(arm, config))
                self.against = against
            elif self.against and backend_of(arm, config).computes_logits:
                self.against.compare_arm(arm, model)
        except (torch.OutOfMemoryError, ModelError):
            self.against = None  # afterwards there is more room, and all arms have written

    def finish(self, prepared: Prepared, generations: Sequence[GenerationRecord]) -> None:
        """Write the records that are missing, arm by arm, one model in memory at a time.

        Without a restored arm, or where it is switched off, nothing is done.
        """
        config, directory = prepared.config, self.directory
        reference = config.reference()
        if reference is None or not config.token_level.enabled:
            return
        made = {record.key: record for record in generations}
        against = self.against or self._against(reference, prepared, made)
        texts, records, control = against.texts, against.records, against.control
        again, folded, *computed = _own_ways(reference, config)
        arms = _others(config)
        names = [again, folded, *computed, *(arm.name for arm in arms)]
        if not all(is_done(name, texts, records) for name in names):
            if self.against is None:
                with open_model(reference, prepared, directory, as_stored=True) as model:
                    against.begin(model, again, folded)
            for name in computed:
                if not is_done(name, texts, records):
                    with open_model(reference, prepared, directory) as model:
                        against.compare(name, model)
            missing = [arm for arm in arms if not is_done(arm.name, texts, records)]
            if missing and control and not against.control_kept and control not in missing:
                missing.append(control)  # the others are held beside it
            for arm in sorted(missing, key=lambda arm: arm is not control):
                self.progress(f"tokens {arm.name}", 0, len(texts))  # loading is part of it
                with open_model(arm, prepared, directory, as_stored=True) as model:
                    against.compare_arm(arm, model)
        keys = [(name, text.problem, text.sample) for name in names for text in texts]
        rewrite_sorted(directory.token_level, [records[key] for key in keys])

    def _against(
        self,
        reference: ArmConfig,
        prepared: Prepared,
        generations: Mapping[Key, GenerationRecord],
    ) -> Reference:
        """What models are held beside: nothing is predicted yet, records of these texts stay."""
        config, path = prepared.config, self.directory.token_level
        texts = choose_texts(
            reference.name,
            prepared.prompts,
            generations,
            load_tokenizer(prepared.checkpoints[reference.name].directory),
            config.decoding.max_new_tokens,
            config.token_level.max_tokens,
        )
        kept, records = KeptPredictions(self.directory.spool), _still_valid(path, texts)
        return Reference(
            reference.name, path, texts, kept, records, self.progress, _control(config)
        )


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
