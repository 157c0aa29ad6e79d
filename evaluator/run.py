"""A run from configuration to tables.

Everything that can go wrong without a model is checked before the first one is loaded. A killed run
is started again with the same command and goes on. Of several processes (``generation.processes``)
all check and generate, and the first one does the rest.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from evaluator.config.config_file import dump_config
from evaluator.config.run_config import RunConfig, deciding_fields
from evaluator.errors import ModelError, RunDirectoryError
from evaluator.generation.backend_choice import check_backends
from evaluator.generation.checkpoints import (
    Checkpoint,
    check_adapter,
    find_checkpoint,
    own_repetition_penalty,
)
from evaluator.generation.device import resolve_device
from evaluator.generation.processes import Processes, launched_processes
from evaluator.generation.prompts import (
    LeftOut,
    Prompt,
    build_prompts,
    check_all_ask,
    check_prompts_fit,
    prompts_digest,
)
from evaluator.generation.stage import (
    finish_generations,
    generate_share,
    take_up_generations,
)
from evaluator.judging.sandbox.sandbox import probe_sandbox
from evaluator.judging.stage import judge_all
from evaluator.progress import Progress
from evaluator.report.html.snapshot import keep_sources
from evaluator.report.results import Results, write_results
from evaluator.store.environment import describe_environment, other_versions
from evaluator.store.lock import locked
from evaluator.store.run_directory import ProblemFacts, RunDirectory, RunFacts
from evaluator.suites.suite import Suite, load_suite
from evaluator.tokens.stage import measure_tokens, spool_bytes
from tinylora.models.chat import load_tokenizer

_log = logging.getLogger(__name__)
_BYTES_PER_TOKEN = 8  # of a completion on the disk, escaped
_BYTES_PER_TEST = 250  # of a verdict
_SPARE_BYTES = 128 * 2**20  # tables, factors, rewritten files


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs, checked, before any model is loaded.

    The configuration has what it leaves to the models as they have it, the suite those problems
    that can be asked.
    """

    config: RunConfig
    suite: Suite
    checkpoints: Mapping[str, Checkpoint]
    prompts: tuple[Prompt, ...]
    facts: RunFacts


def run(
    config: RunConfig, *, command: str, overwrite: bool, unsafe: bool, progress: Progress
) -> Results | None:
    """Make a run, or go on with it, and write its tables; None in further processes of a launch.

    Args:
        config: What to run.
        command: The command line, for the record.
        overwrite: Delete the records of an earlier run in the same directory.
        unsafe: Allow judging without a sandbox.
        progress: Called in the first process only.

    Raises:
        TinyLoRAError: Anything that keeps the run from being made as configured.
    """
    with launched_processes() as processes:
        if not processes.is_first:
            _help(config, processes)
            return None
        directory = RunDirectory(config.out)
        directory.check_usable(overwrite)
        sandbox = probe_sandbox(unsafe)
        prepared = prepare(config)
        config = prepared.config
        _check_disk(prepared)
        _warn_of_left_out(prepared)
        directory.path.mkdir(parents=True, exist_ok=True)
        with locked(directory.path) as lock:
            directory.begin(prepared.facts, dump_config(config), overwrite)
            keep_sources(directory.path, prepared.suite, prepared.checkpoints)
            device = resolve_device(config.device, processes.local_rank)
            session = describe_environment(command, device, asdict(sandbox.info))
            _warn_of_other_versions(directory, session)
            directory.add_session({**session, "processes": processes.world})
            take_up_generations(directory)
            if processes.world > 1:
                lock.hold(shared=True)
            processes.wait()  # the others start here
            _generate(directory, prepared, processes, progress)
            processes.wait()  # and have ended here
            generations = finish_generations(directory, config, prepared.prompts)
            measure_tokens(
                directory, config, prepared.checkpoints, prepared.prompts, generations, progress
            )
            settings = config.judge.settings(unsafe=unsafe)
            judge_all(directory, prepared.suite, generations, settings, sandbox, progress)
            return write_results(directory)


def _warn_of_other_versions(directory: RunDirectory, session: Any) -> None:
    """Another version rounds otherwise: that may flip a text, and is no reason to lose days."""
    if earlier := other_versions(directory.sessions(), session):
        _log.warning(
            "%s: records that are there were made with %s, which is not what is installed here. "
            "The report will name both; --overwrite makes all of them anew",
            directory.path,
            ", ".join(earlier),
        )


def _warn_of_left_out(prepared: Prepared) -> None:
    """Name what the suite has and the run has not; the report does so for what cannot be asked."""
    skipped = [f"{item.where}: {item.reason}" for item in prepared.suite.skipped]
    left_out = [f"{name}: {reason}" for name, reason in prepared.facts.left_out.items()]
    for what, left in (("cannot be judged", skipped), ("cannot be asked", left_out)):
        if left:
            listed = "; ".join(left[:5]) + (" …" if len(left) > 5 else "")
            _log.warning("%s: %d %s: %s", prepared.suite.path, len(left), what, listed)


def _help(config: RunConfig, processes: Processes) -> None:
    """What a further process does: its share of the completions."""
    prepared = prepare(config)
    directory = RunDirectory(config.out)
    processes.wait()
    directory.join(prepared.facts)
    with locked(directory.path, shared=True):
        _generate(directory, prepared, processes, lambda *_: None)
        processes.wait()


def _generate(
    directory: RunDirectory, prepared: Prepared, processes: Processes, progress: Progress
) -> None:
    config, checkpoints = prepared.config, prepared.checkpoints
    device = resolve_device(config.device, processes.local_rank)
    generate_share(directory, config, checkpoints, prepared.prompts, device, processes, progress)


def prepare(config: RunConfig) -> Prepared:
    """Read and check everything but the weights.

    Raises:
        TinyLoRAError: Suite, device, a checkpoint, an artifact or a tokenizer is unusable.
    """
    check_backends(config)
    suite = load_suite(config.suite)
    check_all_ask(suite.problems, str(suite.path), config.prompt)
    device = resolve_device(config.device)
    checkpoints = {arm.name: find_checkpoint(arm) for arm in config.arms}
    for arm in config.arms:
        check_adapter(arm, checkpoints[arm.name])
    config = _with_penalty(config, checkpoints)
    prompts, left_out = _common_prompts(config, suite, checkpoints)
    asked = {prompt.problem for prompt in prompts}
    suite = replace(suite, problems=tuple(p for p in suite.problems if p.id in asked))
    facts = RunFacts(
        config={**deciding_fields(config), "device": device.type},
        suite=suite.name,
        suite_digest=suite.digest,
        prompts_digest=prompts_digest(prompts),
        problems=tuple(ProblemFacts(p.id, p.family, p.language) for p in suite.problems),
        arms=tuple(checkpoints[arm.name].facts for arm in config.arms),
        left_out=left_out,
    )
    return Prepared(config, suite, checkpoints, prompts, facts)


def _with_penalty(config: RunConfig, checkpoints: Mapping[str, Checkpoint]) -> RunConfig:
    """The configuration with its repetition penalty as a number, one for all arms."""
    if not config.penalty_of_models:
        return config
    own = {arm.name: own_repetition_penalty(arm, checkpoints[arm.name]) for arm in config.arms}
    if len(set(own.values())) > 1:
        found = ", ".join(f"{name} has {penalty:g}" for name, penalty in own.items())
        raise ModelError(
            "decoding.repetition_penalty: the models' own, of generation_config.json, differ "
            f"({found}), and one run has one penalty; give a number"
        )
    return config.with_penalty(own[config.arms[0].name])


def _common_prompts(
    config: RunConfig, suite: Suite, checkpoints: Mapping[str, Checkpoint]
) -> tuple[tuple[Prompt, ...], dict[str, str]]:
    """The prompts of all arms, and the problems that some arm cannot be asked, with reasons."""
    prompts: dict[str, Prompt] = {}
    left_out: dict[str, str] = {}
    for arm in config.arms:
        where = f"arm {arm.name}"
        checkpoint = checkpoints[arm.name]
        tokenizer = load_tokenizer(checkpoint.directory)
        own = build_prompts(suite.problems, tokenizer, where, config.prompt)
        left_out |= {item.problem: item.reason for item in own if isinstance(item, LeftOut)}
        mine = [prompt for prompt in own if isinstance(prompt, Prompt)]
        check_prompts_fit(mine, config.decoding.max_new_tokens, checkpoint.positions, where)
        differing = [p.problem for p in mine if prompts.setdefault(p.problem, p) != p]
        if differing:
            raise ModelError(
                f"{where} reads another prompt than arm {config.arms[0].name} for "
                f"{len(differing)} problems ({differing[0]} …): tokenizer or chat template "
                "differ, and completions would not be comparable. Copy the base's tokenizer files"
            )
    asked = tuple(prompts[p.id] for p in suite.problems if p.id not in left_out)
    if not asked:
        raise ModelError(f"{suite.path}: no problem can be asked in all arms")
    return asked, {ascii(problem)[1:-1]: reason for problem, reason in left_out.items()}


def _check_disk(prepared: Prepared) -> None:
    """Refuse to start a run whose records cannot fit."""
    config, problems = prepared.config, prepared.suite.problems
    rows = len(config.arms) * config.decoding.samples
    texts = rows * len(problems) * config.decoding.max_new_tokens * _BYTES_PER_TOKEN
    verdicts = rows * sum(len(problem.tests) for problem in problems) * _BYTES_PER_TEST
    needed = 2 * (texts + verdicts) + _SPARE_BYTES  # twice: files are rewritten sorted
    needed += spool_bytes(config, prepared.checkpoints)
    existing = next(p for p in (config.out, *config.out.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise RunDirectoryError(
            f"{config.out}: {free / 1e6:.0f} MB are free and the run may need "
            f"{needed / 1e6:.0f} MB; free some space or choose another out"
        )
