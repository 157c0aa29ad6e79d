"""The stage that writes completions: prompts in, ``generations.jsonl`` out.

Every process writes its share of the missing batches into a file of its own. They are put together
when a run starts and when all are done, so a run may go on with another number of processes.
"""

import time
from contextlib import AbstractContextManager

from evaluator.config.run_config import ArmConfig
from evaluator.errors import RecordsError
from evaluator.generation.backend import LoadedModel, ModelRequest
from evaluator.generation.backend_choice import backend_of
from evaluator.generation.prepare import Prepared
from evaluator.generation.processes import Processes, resolve_device
from evaluator.generation.prompts import Batch, plan_batches
from evaluator.progress import Progress
from evaluator.store.plan import check_makers, maker_ids, plan_id
from evaluator.store.records import GenerationRecord, Key, append, read, repair, rewrite_sorted
from evaluator.store.run_directory import RunDirectory, RunFacts


def take_up_generations(directory: RunDirectory, facts: RunFacts) -> dict[Key, GenerationRecord]:
    """Put the completions of all processes into ``generations.jsonl``; nobody may be writing.

    RecordsError where one was made by another model or other settings.
    """
    records: dict[Key, GenerationRecord] = {}
    others = directory.other_generations()
    for path in (directory.generations, *others):
        repair(path)
        read(path, GenerationRecord.from_row, records)
    check_makers(directory, facts, records)
    if others:  # a kill in between leaves equal records twice
        rewrite_sorted(directory.generations, records.values())
    for path in others:
        path.unlink()
    return records


def generate_share(
    directory: RunDirectory, prepared: Prepared, processes: Processes, progress: Progress
) -> None:
    """Write this process's share of the missing completions, one model in memory at a time."""
    # Written by nobody until all shares are done, apart from the first process's own records.
    records = read(directory.generations, GenerationRecord.from_row)
    processes.wait()  # nobody appends before all have read the same
    path = directory.generations_of(processes.rank)
    decoding = prepared.config.decoding
    total = len(prepared.prompts) * decoding.samples
    makers, plan = maker_ids(prepared.facts), plan_id(prepared.facts)
    for arm in prepared.config.arms:
        missing = [
            batch
            for batch in plan_batches(prepared.prompts, decoding, arm.batch_size)
            if any((arm.name, row.prompt.problem, row.sample) not in records for row in batch)
        ]
        share = missing[processes.rank :: processes.world]  # the longest are spread evenly
        done = total - sum(map(len, missing))
        mine = done + sum(map(len, share))
        progress(f"generate {arm.name}", done, mine)
        if not share:
            continue
        with open_model(arm, prepared, directory, processes.local_rank) as model:
            for batch in share:
                made = _completed(arm.name, model, batch, makers[arm.name], plan)
                append(path, [record for record in made if record.key not in records])
                done += len(made)
                progress(f"generate {arm.name}", done, mine)


def finish_generations(directory: RunDirectory, prepared: Prepared) -> tuple[GenerationRecord, ...]:
    """Put the shares of all processes together, by arm, problem and sample."""
    records = take_up_generations(directory, prepared.facts)
    keys = [
        (arm.name, prompt.problem, sample)
        for arm in prepared.config.arms
        for prompt in prepared.prompts
        for sample in range(prepared.config.decoding.samples)
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


def open_model(
    arm: ArmConfig,
    prepared: Prepared,
    directory: RunDirectory,
    local_rank: int = 0,
    *,
    as_stored: bool = False,
) -> AbstractContextManager[LoadedModel]:
    """An arm's model, loaded by its backend, in memory only inside the ``with``.

    ``as_stored``: as the float32 function that its files say, for the token level.
    """
    config = prepared.config
    device = config.token_level.device if as_stored else None
    request = ModelRequest(
        arm=arm,
        checkpoint=prepared.checkpoints[arm.name],
        decoding=config.decoding,
        seed=config.decoding.seed if arm.seed is None else arm.seed,
        compute_dtype="float32" if as_stored else config.compute_dtype,
        device=resolve_device(device or config.device, local_rank),
        factors=config.factor_store or directory.factors,
        as_stored=as_stored,
    )
    return backend_of(arm, config).load(request)


def _completed(
    arm: str, model: LoadedModel, batch: Batch, maker: str, plan: str
) -> list[GenerationRecord]:
    start = time.monotonic()
    made = model.complete(batch)
    seconds = round((time.monotonic() - start) / len(batch), 6)
    return [
        GenerationRecord(arm, row.prompt.problem, row.sample, *completion, seconds, maker, plan)
        for row, completion in zip(batch, made, strict=True)
    ]
