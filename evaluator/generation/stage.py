"""The stage that writes completions: prompts in, ``generations.jsonl`` out.

Every process of a launch writes its share of the missing batches into a file of its own. They are
put together when a run starts and when all shares are done, so a run may go on with another number
of processes than it was killed with.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import torch

from evaluator.config.run_config import ArmConfig, RunConfig
from evaluator.errors import RecordsError
from evaluator.generation.backend import LoadedModel, ModelRequest
from evaluator.generation.backend_choice import backend_of
from evaluator.generation.batches import Batch, plan_batches, share_of
from evaluator.generation.checkpoints import Checkpoint
from evaluator.generation.processes import Processes
from evaluator.generation.prompts import Prompt
from evaluator.progress import Progress
from evaluator.store.records import (
    GenerationRecord,
    Key,
    append,
    read,
    read_into,
    repair,
    rewrite_sorted,
)
from evaluator.store.run_directory import RunDirectory


def take_up_generations(directory: RunDirectory) -> dict[Key, GenerationRecord]:
    """Put the completions of all processes into ``generations.jsonl``; nobody may be writing."""
    records: dict[Key, GenerationRecord] = {}
    others = directory.other_generations()
    for path in (directory.generations, *others):
        repair(path)
        read_into(records, path, GenerationRecord.from_row)
    if others:  # a kill in between leaves equal records twice
        rewrite_sorted(directory.generations, records.values())
    for path in others:
        path.unlink()
    return records


def generate_share(
    directory: RunDirectory,
    config: RunConfig,
    checkpoints: Mapping[str, Checkpoint],
    prompts: Sequence[Prompt],
    device: torch.device,
    processes: Processes,
    progress: Progress,
) -> None:
    """Write this process's share of the missing completions, one model in memory at a time."""
    # Written by nobody until all shares are done, apart from the first process's own records.
    records = read(directory.generations, GenerationRecord.from_row)
    processes.wait()  # nobody appends before all have read the same
    path = directory.generations_of(processes.rank)
    batches = plan_batches(prompts, config.decoding)
    for arm in config.arms:
        missing = [batch for batch in batches if not _is_done(arm, batch, records)]
        share = share_of(missing, processes.rank, processes.world)
        done = _rows(batches) - _rows(missing)
        total = done + _rows(share)
        progress(f"generate {arm.name}", done, total)
        for made in _complete(arm, config, checkpoints[arm.name], directory, device, share):
            append(path, [record for record in made if record.key not in records])
            done += len(made)
            progress(f"generate {arm.name}", done, total)


def finish_generations(
    directory: RunDirectory, config: RunConfig, prompts: Sequence[Prompt]
) -> tuple[GenerationRecord, ...]:
    """Put the shares of all processes together, by arm, problem and sample."""
    records = take_up_generations(directory)
    keys = [
        (arm.name, prompt.problem, sample)
        for arm in config.arms
        for prompt in prompts
        for sample in range(config.decoding.samples)
    ]
    missing = [key for key in keys if key not in records]
    if missing:
        raise RecordsError(
            f"{directory.path}: {len(missing)} of {len(keys)} completions are missing though all "
            f"processes are done, the first is {missing[0]}; check that all machines see the same "
            "out, and start the run again"
        )
    ordered = tuple(records[key] for key in keys)
    rewrite_sorted(directory.generations, ordered)
    return ordered


def _rows(batches: Sequence[Batch]) -> int:
    return sum(len(batch) for batch in batches)


def _is_done(arm: ArmConfig, batch: Batch, records: Mapping[Key, GenerationRecord]) -> bool:
    return all((arm.name, row.prompt.problem, row.sample) in records for row in batch)


def _complete(
    arm: ArmConfig,
    config: RunConfig,
    checkpoint: Checkpoint,
    run: RunDirectory,
    device: torch.device,
    batches: Sequence[Batch],
) -> Iterator[tuple[GenerationRecord, ...]]:
    """Load the arm's model, unless nothing is missing, and run the batches."""
    if not batches:
        return
    with open_model(arm, config, checkpoint, run, device) as model:
        for batch in batches:
            start = time.monotonic()
            made = model.complete(batch)
            seconds = round((time.monotonic() - start) / len(batch), 6)
            yield tuple(
                GenerationRecord(
                    arm=arm.name,
                    problem=row.prompt.problem,
                    sample=row.sample,
                    text=completion.text,
                    token_count=completion.token_count,
                    finish_reason=completion.finish_reason,
                    seconds=seconds,
                )
                for row, completion in zip(batch, made, strict=True)
            )


def open_model(
    arm: ArmConfig,
    config: RunConfig,
    checkpoint: Checkpoint,
    run: RunDirectory,
    device: torch.device,
) -> AbstractContextManager[LoadedModel]:
    """An arm's model, loaded by its backend, in memory only inside the ``with``."""
    request = ModelRequest(
        arm=arm,
        checkpoint=checkpoint,
        decoding=config.decoding,
        seed=config.decoding.seed if arm.seed is None else arm.seed,
        compute_dtype=config.compute_dtype,
        device=device,
        factors=config.factor_store or run.factors,
    )
    return backend_of(arm, config).load(request)
