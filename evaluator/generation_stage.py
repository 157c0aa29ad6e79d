"""The stage that writes completions: prompts in, ``generations.jsonl`` out."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from evaluator.checkpoints import Checkpoint
from evaluator.config import ArmConfig, RunConfig
from evaluator.generate import Batch, Generator, end_and_pad, plan_batches
from evaluator.models import load_tokenizer, loaded_model, resolve_device
from evaluator.prompts import Prompt
from evaluator.records import GenerationRecord, Key, append, read, repair, rewrite_sorted
from evaluator.run_directory import RunDirectory

# (stage, done, total)
Progress = Callable[[str, int, int], None]


def generate_all(
    directory: RunDirectory,
    config: RunConfig,
    checkpoints: Mapping[str, Checkpoint],
    prompts: Sequence[Prompt],
    progress: Progress,
) -> tuple[GenerationRecord, ...]:
    """Write the completions that are missing, arm by arm, one model in memory at a time.

    Args:
        directory: Of the run.
        config: Of the run.
        checkpoints: By arm.
        prompts: In the suite's order, the same for all arms.
        progress: Called after each batch.

    Returns:
        All completions, by arm, problem and sample.

    Raises:
        ModelError: A model cannot be loaded.
        GenerationError: A model's completions make no sense.
    """
    path = directory.generations
    repair(path)
    records = read(path, GenerationRecord.from_row)
    batches = plan_batches(prompts, config.decoding)
    total = sum(len(batch) for batch in batches)
    for arm in config.arms:
        missing = [batch for batch in batches if not _is_done(arm, batch, records)]
        done = total - sum(len(batch) for batch in missing)
        progress(f"generate {arm.name}", done, total)
        for made in _complete(arm, config, checkpoints[arm.name], directory, missing):
            append(path, [record for record in made if record.key not in records])
            records.update((record.key, record) for record in made)
            done += len(made)
            progress(f"generate {arm.name}", done, total)
    ordered = [
        records[arm.name, prompt.problem, sample]
        for arm in config.arms
        for prompt in prompts
        for sample in range(config.decoding.samples)
    ]
    rewrite_sorted(path, ordered)
    return tuple(ordered)


def _is_done(arm: ArmConfig, batch: Batch, records: Mapping[Key, GenerationRecord]) -> bool:
    return all((arm.name, row.prompt.problem, row.sample) in records for row in batch)


def _complete(
    arm: ArmConfig,
    config: RunConfig,
    checkpoint: Checkpoint,
    run: RunDirectory,
    batches: Sequence[Batch],
) -> Iterator[tuple[GenerationRecord, ...]]:
    """Load the arm's model, unless nothing is missing, and run the batches."""
    if not batches:
        return
    device = resolve_device(config.device)
    tokenizer = load_tokenizer(checkpoint.directory)
    seed = config.decoding.seed if arm.seed is None else arm.seed
    factors = config.factor_store or run.factors
    with loaded_model(arm, checkpoint, config.compute_dtype, device, factors) as model:
        ends, pad = end_and_pad(model, tokenizer, f"arm {arm.name}")
        generator = Generator(arm.name, model, tokenizer, config.decoding, seed, ends, pad)
        yield from generator.complete(batches)
