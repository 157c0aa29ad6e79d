"""Everything a run needs, found and checked before any model is loaded."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from evaluator.config.run_config import ArmConfig, RunConfig, deciding_fields
from evaluator.errors import ModelError
from evaluator.generation.backend import Asked
from evaluator.generation.backends import backend_of, check_backends
from evaluator.generation.checkpoints import (
    Checkpoint,
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
from evaluator.store.looks import planned_looks
from evaluator.store.run_directory import ArmFacts, ProblemFacts, RunFacts
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

    def only(self, problems: Collection[str]) -> "Prepared":
        """The same run, asking these problems."""
        asked = tuple(prompt for prompt in self.prompts if prompt.problem in problems)
        return replace(self, prompts=asked)


def prepare(config: RunConfig) -> Prepared:
    """Read and check everything but the weights."""
    check_backends(config)
    suite = load_suite(config.suite)
    known = frozenset(suite.by_id())
    suite = suite.first(config.limit)
    check_all_ask(suite.problems, str(suite.path), config.prompt)
    device = resolve_device(config.device)
    config, checkpoints = with_checkpoints(config)
    prompts, left_out = common_prompts(config, suite, checkpoints)
    asked = Asked(prompts, config.decoding, known)
    has_text = {prompt.problem for prompt in prompts}
    suite = replace(suite, problems=tuple(p for p in suite.problems if p.id in has_text))
    facts = RunFacts(
        config={**deciding_fields(config), "device": device.type},
        suite=suite.name,
        suite_digest=suite.digest,
        prompts_digest=prompts_digest(prompts),
        problems=tuple(ProblemFacts(p.id, p.family, p.language) for p in suite.problems),
        arms=tuple(_facts(arm, config, checkpoints, asked) for arm in config.arms),
        left_out=left_out,
    )
    planned_looks(facts)  # or it says why there cannot be so many
    return Prepared(config, suite, checkpoints, prompts, facts)


def with_checkpoints(config: RunConfig) -> tuple[RunConfig, Mapping[str, Checkpoint]]:
    """The models that are here, by arm, and the configuration with their repetition penalty."""
    checkpoints = {arm.name: find_checkpoint(arm) for arm in config.arms if arm.model}
    return _with_penalty(config, checkpoints), checkpoints


def _facts(
    arm: ArmConfig, config: RunConfig, checkpoints: Mapping[str, Checkpoint], asked: Asked
) -> ArmFacts:
    backend = backend_of(arm, config)
    facts = backend.describe(arm, asked, checkpoints.get(arm.name))
    return replace(facts, paired=backend.pairs_noise, logits=backend.gives_logits)


def _with_penalty(config: RunConfig, checkpoints: Mapping[str, Checkpoint]) -> RunConfig:
    """The configuration with its repetition penalty as a number, one for all arms."""
    if not config.penalty_of_models:
        return config
    here = [arm for arm in config.arms if arm.name in checkpoints]
    own = {arm.name: own_repetition_penalty(arm, checkpoints[arm.name]) for arm in here}
    if not own:
        raise ModelError(
            "decoding.repetition_penalty: no arm has a model here that could name its own; give a "
            "number"
        )
    if len(set(own.values())) > 1:
        found = ", ".join(f"{name} has {penalty:g}" for name, penalty in own.items())
        raise ModelError(
            "decoding.repetition_penalty: the models' own, of generation_config.json, differ "
            f"({found}), and one run has one penalty; give a number"
        )
    penalty = {"repetition_penalty": own[here[0].name]}
    return config.model_copy(update={"decoding": config.decoding.model_copy(update=penalty)})


def common_prompts(
    config: RunConfig, suite: Suite, checkpoints: Mapping[str, Checkpoint]
) -> tuple[tuple[Prompt, ...], dict[str, str]]:
    """The prompts of all arms, and the problems that some arm cannot be asked, with reasons."""
    prompts: dict[str, Prompt] = {}
    left_out: dict[str, str] = {}
    here = [arm for arm in config.arms if arm.name in checkpoints]
    if not here:
        own, left_out = build_prompts(suite.problems, None, "", config.prompt)
        prompts = {prompt.problem: prompt for prompt in own}
    for arm in here:
        where, checkpoint = f"arm {arm.name}", checkpoints[arm.name]
        tokenizer = load_tokenizer(checkpoint.directory)
        own, silent = build_prompts(suite.problems, tokenizer, where, config.prompt)
        left_out |= silent
        check_prompts_fit(own, config.decoding.max_new_tokens, checkpoint.positions, where)
        differing = [p.problem for p in own if prompts.setdefault(p.problem, p) != p]
        if differing:
            raise ModelError(
                f"{where} reads another prompt than arm {here[0].name} for "
                f"{len(differing)} problems ({differing[0]} …): tokenizer or chat template "
                "differ, and completions would not be comparable. Copy the base's tokenizer files"
            )
    asked = tuple(prompts[p.id] for p in suite.problems if p.id not in left_out)
    if not asked:
        raise ModelError(f"{suite.path}: no problem can be asked in all arms")
    return asked, {ascii(problem)[1:-1]: reason for problem, reason in left_out.items()}
