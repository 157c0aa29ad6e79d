"""From problems to token ids, with the tokenizer's own chat template."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from evaluator.errors import GenerationError, ModelError, SuiteError
from evaluator.suites.problem import Problem


@dataclass(frozen=True)
class Prompt:
    """What a model reads for one problem.

    Attributes:
        problem: The problem's id.
        text: The prompt after the chat template.
        token_ids: Its tokens.
    """

    problem: str
    text: str
    token_ids: tuple[int, ...]


def build_prompts(
    problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, where: str
) -> tuple[Prompt, ...]:
    """Put each statement, or a suite's ready-made prompt, into the chat template.

    Args:
        problems: The suite's problems.
        tokenizer: With a chat template.
        where: Name of the checkpoint, for errors.

    Raises:
        ModelError: The tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"{where}: the tokenizer has no chat template (chat_template.jinja, or chat_template "
            "in tokenizer_config.json); copy the base model's next to the weights"
        )
    prompts = []
    for problem in problems:
        messages = [{"role": "user", "content": _question(problem)}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        # The template has written the special tokens already.
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        prompts.append(Prompt(problem.id, text, tuple(ids)))
    return tuple(prompts)


def check_all_ask(problems: Sequence[Problem], where: str) -> None:
    """Check that every problem says something to a model.

    One that does not would be failed by all arms, and so count as one on which they agree.

    Args:
        problems: The suite's problems.
        where: The suite, for errors.

    Raises:
        SuiteError: Names the problems with neither statement nor prompt.
    """
    silent = [problem.id for problem in problems if not _question(problem).strip()]
    if silent:
        raise SuiteError(
            f"{where}: {len(silent)} of {len(problems)} problems have neither a statement nor a "
            f"prompt, so no model can be asked: {_some(silent)}. Import the suite again with their "
            "statements (--statements), or leave these problems out of it"
        )


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """sha256 of the problems' ids and tokens: arms are comparable only where it is the same."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(repr((prompt.problem, prompt.token_ids)).encode())
    return digest.hexdigest()


def check_prompts_fit(
    prompts: Sequence[Prompt], max_new_tokens: int, context: int | None, where: str
) -> None:
    """Check that prompt and completion fit the model's context.

    Args:
        prompts: The prompts.
        max_new_tokens: Longest completion.
        context: Positions that the model has; None where its configuration does not say.
        where: Name of the checkpoint, for errors.

    Raises:
        GenerationError: Names the problems that do not fit.
    """
    if context is None:
        return
    long = [p.problem for p in prompts if len(p.token_ids) + max_new_tokens > context]
    if long:
        raise GenerationError(
            f"{where}: {len(long)} of {len(prompts)} prompts do not fit its {context} positions "
            f"together with max_new_tokens = {max_new_tokens}: {_some(long)}. Lower "
            "max_new_tokens, or leave these problems out of the suite"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _question(problem: Problem) -> str:
    return problem.prompt or problem.statement
