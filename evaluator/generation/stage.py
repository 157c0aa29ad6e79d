"""The stage that writes completions: prompts in, ``generations.jsonl`` out.

Every process writes its share of the missing batches into a file of its own. They are put together
when a run starts and when all are done, so a run may go on with another number of processes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from evaluator.config.run_config import ArmConfig, ArmKind
from evaluator.errors import RecordsError
from evaluator.generation.backend import Completion, Drafts, LoadedModel, Made, ModelRequest
from evaluator.generation.backends import backend_of
from evaluator.generation.prepare import Prepared
from evaluator.generation.processes import Processes, resolve_device
from evaluator.generation.prompts import Row, plan_batches
from evaluator.judging.answer_end import end_of_answer
from evaluator.progress import Progress
from evaluator.store.plan import check_makers, maker_ids, plan_id
from evaluator.store.records import GenerationRecord, Key, append, read, rewrite_sorted
from evaluator.store.run_directory import RunDirectory, RunFacts

_BATCHES_READ = 16

Meanwhile = Callable[[ArmConfig, LoadedModel], None]  # what else is done with a model in memory


def generations_so_far(directory: RunDirectory) -> dict[Key, GenerationRecord]:
    """The completions of all processes; nothing is written."""
    records: dict[Key, GenerationRecord] = {}
    for path in (directory.generations, *directory.other_generations()):
        read(path, GenerationRecord.from_row, records)
    return records


def take_up_generations(directory: RunDirectory, facts: RunFacts) -> dict[Key, GenerationRecord]:
    """Put the completions of all processes into ``generations.jsonl``; nobody may be writing.

    RecordsError where one was made by another model or other settings.
    """
    others = directory.other_generations()
    records = generations_so_far(directory)
    check_makers(directory, facts, records)
    if others:  # a kill in between leaves equal records twice
        rewrite_sorted(directory.generations, records.values())
    for path in others:
        path.unlink()
    return records


def generate_share(
    directory: RunDirectory,
    prepared: Prepared,
    processes: Processes,
    progress: Progress,
    meanwhile: Meanwhile | None = None,
) -> None:
    """Write this process's share of the missing completions, one model in memory at a time.

    The reference comes first, then bases. ``meanwhile`` is given each model that has written.
    """
    # Written by nobody until all shares are done, apart from the first process's own records.
    records = read(directory.generations, GenerationRecord.from_row)
    processes.wait()  # nobody appends before all have read the same
    path = directory.generations_of(processes.rank)
    decoding = prepared.config.decoding
    total = len(prepared.prompts) * decoding.samples
    makers, plan = maker_ids(prepared.facts), plan_id(prepared.facts)
    reference = prepared.config.reference()
    readers = _readers(prepared)
    drafts: Drafts = {}
    for arm in sorted(
        prepared.config.arms, key=lambda arm: (arm is not reference, arm.kind is not ArmKind.BASE)
    ):
        size = arm.batch_size or decoding.batch_size
        if arm.name in readers:
            size *= _BATCHES_READ  # few rows of a batch are left after reading
        if backend_of(arm, prepared.config).by_row:
            size = 1
        missing = [
            batch
            for batch in plan_batches(prepared.prompts, decoding, size)
            if any((arm.name, row.prompt.problem, row.sample) not in records for row in batch)
        ]
        share = missing[processes.rank :: processes.world]  # the longest are spread evenly
        done = total - sum(map(len, missing))
        mine = done + sum(map(len, share))
        progress(f"generate {arm.name}", done, mine)
        if share:
            engine = next((one.engine for one in records.values() if one.arm == arm.name), "")
            own = drafts if arm.name in readers else None
            with open_model(arm, prepared, directory, processes.local_rank, engine=engine) as model:
                for made in model.complete_all(share, own):
                    if decoding.stop:
                        made = made._replace(completions=[*map(_cut, made.batch, made.completions)])
                    new = _records(arm.name, made, arm is reference, makers[arm.name], plan)
                    append(path, [record for record in new if record.key not in records])
                    done += len(new)
                    progress(f"generate {arm.name}", done, mine)
                if meanwhile is not None:
                    meanwhile(arm, model)
        if arm is reference and readers:
            processes.wait()  # the others have written their share of the reference
            drafts = _drafts(directory, arm.name)


def all_generations(directory: RunDirectory, prepared: Prepared) -> tuple[GenerationRecord, ...]:
    """What all processes have written for these prompts, by arm, problem and sample.

    Completions of other problems stay in the file: a later look may want them.
    """
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
    return tuple(records[key] for key in keys)


def open_model(
    arm: ArmConfig,
    prepared: Prepared,
    directory: RunDirectory,
    local_rank: int = 0,
    *,
    as_stored: bool = False,
    engine: str = "",
) -> AbstractContextManager[LoadedModel]:
    """An arm's model, loaded by its backend, in memory only inside the ``with``.

    ``as_stored``: as the float32 function that its files say, for the token level. ``engine``: what
    made earlier texts of this arm.
    """
    config, files = prepared.config, prepared.checkpoints.get(arm.name)
    device = (as_stored and config.token_level.device) or config.device
    request = ModelRequest(
        arm=arm,
        facts=files.facts if files else prepared.facts.arm(arm.name),
        files=files,
        decoding=config.decoding,
        seed=config.decoding.seed if arm.seed is None else arm.seed,
        compute_dtype="float32" if as_stored else config.compute_dtype,
        device=resolve_device(device, local_rank),
        spread=device == "all",
        factors=config.factor_store or directory.factors,
        as_stored=as_stored,
        engine=engine,
        longest=max(len(prompt.token_ids) for prompt in prepared.prompts)
        + config.decoding.max_new_tokens,
    )
    return backend_of(arm, config).load(request)


def _readers(prepared: Prepared) -> frozenset[str]:
    """Arms that read the reference's completions and write only what they would write otherwise.

    Repeats of the reference do not: what they are there to show is what writing again does.
    """
    config, facts = prepared.config, prepared.facts
    reference = config.reference()
    if reference is None or not config.drafts:
        return frozenset()
    repeats = facts.same_model(reference.name)
    return frozenset(
        arm.name
        for arm in config.arms
        if arm.name not in repeats
        and facts.same_noise(arm.name, reference.name)
        and backend_of(arm, config).reads_drafts
    )


def _drafts(directory: RunDirectory, reference: str) -> Drafts:
    """The reference's tokens by problem and sample, those of other processes too."""
    return {
        (record.problem, record.sample): record.tokens
        for record in generations_so_far(directory).values()
        if record.arm == reference
    }


def _cut(row: Row, made: Completion) -> Completion:
    """What an engine wrote behind the answer does not count; a backend that can stops there."""
    end = end_of_answer(made.text, row.prompt.text, whole=True)
    if end is None:
        return made
    return made._replace(text=made.text[:end], finish_reason="stop")


def _records(
    arm: str, made: Made, keep_tokens: bool, maker: str, plan: str
) -> list[GenerationRecord]:
    seconds = round(made.seconds / len(made.batch), 6)
    return [
        GenerationRecord(
            arm=arm,
            problem=row.prompt.problem,
            sample=row.sample,
            **(one if keep_tokens else one._replace(tokens=()))._asdict(),
            seconds=seconds,
            maker=maker,
            plan=plan,
        )
        for row, one in zip(made.batch, made.completions, strict=True)
    ]
