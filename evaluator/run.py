"""A run from configuration to tables.

Everything that can go wrong without a model is checked before the first one is loaded. Of several
processes all check and generate, and the first one does the rest.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from evaluator.config.config_file import dump_config
from evaluator.config.run_config import RunConfig
from evaluator.effect import measure_effect, worth_measuring
from evaluator.errors import RunDirectoryError, UninformativeError
from evaluator.generation.prepare import Prepared, prepare
from evaluator.generation.processes import Processes, launched_processes, resolve_device
from evaluator.generation.stage import (
    Meanwhile,
    all_generations,
    generate_share,
    generations_so_far,
    take_up_generations,
)
from evaluator.judging.sandbox.sandbox import probe_sandbox
from evaluator.judging.stage import judge_all
from evaluator.progress import Progress
from evaluator.report.results import Results, write_results
from evaluator.report.summary import summarize
from evaluator.report.text_table import TextTable
from evaluator.store.environment import describe_environment, other_versions
from evaluator.store.lock import locked
from evaluator.store.looks import planned_looks
from evaluator.store.plan import write_plan
from evaluator.store.records import GenerationRecord, VerdictRecord, rewrite_sorted
from evaluator.store.run_directory import RunDirectory
from evaluator.store.snapshot import keep_sources
from evaluator.suites.near_copies import copies_without_family
from evaluator.suites.suite import Suite
from evaluator.tokens.stage import spool_bytes, token_stage
from tinylora.errors import TinyLoRAError

_log = logging.getLogger(__name__)
_BYTES_PER_TOKEN = 8  # of a completion on the disk, escaped
_BYTES_PER_TEST = 250  # of a verdict
_NO_MORE = 0  # instead of the number of the next look
_SPARE_BYTES = 128 * 2**20  # tables, factors, rewritten files


def run(
    config: RunConfig,
    *,
    command: str,
    overwrite: bool,
    unsafe: bool,
    progress: Progress,
    require_informative: bool = False,
) -> Results | None:
    """Make a run, or go on with it, and write its tables; None in further processes of a launch.

    ``command`` is for the record. ``overwrite`` deletes an earlier run's records, ``unsafe`` allows
    judging without a sandbox, and with ``require_informative`` it is an UninformativeError where
    pass rates could not show a lost adapter. Only the first process reports progress.
    """
    with launched_processes() as processes:
        # Before anybody waits: a device that some process cannot have ends the launch here.
        device = resolve_device(config.device, processes.local_rank)
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
        with locked(directory.path) as hold:
            copies = copies_without_family(prepared.suite.problems)
            facts = replace(prepared.facts, near_copies=copies)
            directory.begin(facts, dump_config(config), overwrite)
            write_plan(directory, prepared.facts)
            folders = {name: found.directory for name, found in prepared.checkpoints.items()}
            keep_sources(directory, prepared.suite.problems, folders)
            session = describe_environment(command, device, asdict(sandbox.info))
            _warn_of_other_versions(directory, session)
            directory.add_session({**session, "processes": processes.world})
            completions = take_up_generations(directory, prepared.facts)
            if require_informative or not completions:
                factors = config.factor_store or directory.factors  # the run wants them too
                kept = config.model_copy(update={"factor_store": factors})
                _look_ahead(replace(prepared, config=kept), require_informative, progress)
            if processes.world > 1:
                hold(True)  # shared
            processes.wait()  # the others start here
            judge = partial(
                judge_all,
                settings=config.judge.settings(unsafe=unsafe),
                sandbox=sandbox,
                progress=progress,
            )
            with token_stage(directory, prepared, progress) as tokens:
                measure = tokens.while_writing(processes)
                tokens.finish(
                    *_look_by_look(directory, prepared, processes, judge, progress, measure)
                )
            return write_results(directory)


def survey(config: RunConfig) -> TextTable:
    """What a run would make and what is there, once all is checked. Nothing is written."""
    directory = RunDirectory(config.out)
    directory.check_usable(overwrite=False)
    prepared = prepare(config)
    directory.check_same(prepared.facts)
    _check_disk(prepared)
    _warn_of_left_out(prepared)
    there = Counter(arm for arm, *_ in generations_so_far(directory))
    total = len(prepared.prompts) * prepared.config.decoding.samples
    rows = [
        {
            "arm": arm.name,
            "kind": str(arm.kind),
            "model": str(arm.model or arm.completions or (arm.endpoint and arm.endpoint.model)),
            "completions": str(total),
            "there": str(there[arm.name]),
        }
        for arm in prepared.config.arms
    ]
    title = f"{config.name}: {len(prepared.prompts)} problems, would be written to {config.out}"
    return TextTable.of(title, rows)


def _look_ahead(prepared: Prepared, required: bool, progress: Progress) -> None:
    """Say before anything is written what pass rates could show of the adapter."""
    if not required and not worth_measuring(prepared):
        return
    try:
        effect = measure_effect(prepared, progress)
    except TinyLoRAError as error:  # no room for float32, no logits; what else is wrong comes again
        if required:
            raise
        _log.warning("What pass rates could show was not measured: %s", error)
        return
    said = " ".join(effect.sentences)
    if required and not effect.informative:
        raise UninformativeError(f"{prepared.config.out}: {said}")
    _log.log(logging.INFO if effect.informative else logging.WARNING, "%s", said)


def _look_by_look(
    directory: RunDirectory,
    prepared: Prepared,
    processes: Processes,
    judge: Callable[[RunDirectory, Suite, Sequence[GenerationRecord]], list[VerdictRecord]],
    progress: Progress,
    measure: Meanwhile | None,
) -> tuple[Prepared, Sequence[GenerationRecord]]:
    """Completions and verdicts until all is decided: the run so far, and its completions.

    A run that goes on takes every look again, by the records that are there.
    """
    for look in planned_looks(prepared.facts):
        processes.agree(look.look.number)
        generate_share(directory, prepared.only(look.new), processes, progress, measure)
        processes.wait()
        if look.is_last:
            processes.agree(_NO_MORE)
        seen = prepared.only(look.problems)
        generations = all_generations(directory, seen)
        verdicts = {one.key: one for one in judge(directory, prepared.suite, generations)}
        if not look.is_last and summarize(prepared.facts, verdicts).decided:
            processes.agree(_NO_MORE)
            break
    rewrite_sorted(directory.generations, generations)  # without what no look has seen
    rewrite_sorted(directory.verdicts, verdicts.values())
    return seen, generations


def _help(config: RunConfig, processes: Processes) -> None:
    """What a further process does: its share of the completions, look by look."""
    prepared, directory = prepare(config), RunDirectory(config.out)
    processes.wait()
    directory.join(prepared.facts)
    looks = planned_looks(prepared.facts)
    with locked(directory.path, shared=True):
        while number := processes.agree(_NO_MORE):
            generate_share(
                directory, prepared.only(looks[number - 1].new), processes, lambda *_: None
            )
            processes.wait()


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


def _check_disk(prepared: Prepared) -> None:
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
