"""Everything a run needs, found and checked before any model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from evaluator.config.run_config import RunConfig, deciding_fields
from evaluator.errors import ModelError
from evaluator.generation.backend_choice import check_backends
from evaluator.generation.checkpoints import (
    Checkpoint,
    check_adapter,
    find_checkpoint,
    own_repetition_penalty,
)
from evaluator.generation.processes import resolve_device
from evaluator.generation.prompts import (
    Prompt,
    build_prompts,
    check_all_ask,
    check_prompts_fit,
    prompts_digest,
)
from evaluator.store.run_directory import ProblemFacts, RunFacts
from evaluator.suites.suite import Suite, load_suite
from tinylora.models.chat import load_tokenizer


@dataclass(frozen=True)
class Prepared:
    """A run that can be made.

    The configuration has what it leaves to the models as they have it, the suite those problems
    that can be asked.
    """

    config: RunConfig
    suite: Suite
    checkpoints: Mapping[str, Checkpoint]
    prompts: tuple[Prompt, ...]
    facts: RunFacts


def prepare(config: RunConfig) -> Prepared:
    """Read and check everything but the weights."""
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
        where, checkpoint = f"arm {arm.name}", checkpoints[arm.name]
        tokenizer = load_tokenizer(checkpoint.directory)
        own, silent = build_prompts(suite.problems, tokenizer, where, config.prompt)
        left_out |= silent
        check_prompts_fit(own, config.decoding.max_new_tokens, checkpoint.positions, where)
        differing = [p.problem for p in own if prompts.setdefault(p.problem, p) != p]
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
