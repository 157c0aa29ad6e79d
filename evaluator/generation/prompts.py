"""From problems to token ids, with the tokenizer's own chat template.

Some templates write a system message where none is sent; ``system: none`` keeps it out.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evaluator.config.prompt_config import NO_SYSTEM, TEMPLATE_DEFAULT, PromptConfig
from evaluator.config.run_config import DecodingConfig
from evaluator.errors import ModelError, SuiteError
from evaluator.suites.problem import Problem
from tinylora.errors import TokenizerError
from tinylora.models.chat import token_ids, write_chats

Message = Mapping[str, str]  # role and content


@dataclass(frozen=True)
class Prompt:
    """What a model reads for one problem: the text after the chat template, and its tokens.

    ``messages`` is what an engine has to put into the same template; empty where it would write
    another text. Where no arm has a tokenizer, they are all there is.
    """

    problem: str
    text: str
    token_ids: tuple[int, ...]
    messages: tuple[Message, ...] = ()


class Row(NamedTuple):
    """One completion to make."""

    prompt: Prompt
    sample: int


Batch = tuple[Row, ...]


def build_prompts(
    problems: Sequence[Problem],
    tokenizer: Any,
    where: str,
    asking: PromptConfig = PromptConfig(),  # noqa: B008  (frozen)
) -> tuple[tuple[Prompt, ...], dict[str, str]]:
    """Ask each problem as configured, inside the chat template.

    Returns prompts in the order of the problems, and for each other problem why it has none;
    without a tokenizer they have messages alone. ModelError where no problem can be asked.
    """
    left_out = {p.id: reason for p in problems if (reason := p.why_no_text())}
    usable = [problem for problem in problems if problem.id not in left_out]
    chats = [_chat(asking, problem) for problem in usable]
    if tokenizer is None:
        pairs = zip(usable, chats, strict=True)
        return tuple(Prompt(problem.id, "", (), chat) for problem, chat in pairs), left_out
    prompts: list[Prompt] = []
    try:
        texts: Sequence[str | TokenizerError]
        texts = plain = write_chats(tokenizer, chats)
        if asking.system == NO_SYSTEM:
            texts = _write_without_system(tokenizer, [chat[0] for chat in chats])
    except TokenizerError as error:
        raise ModelError(f"{where}: {error}") from error
    for problem, text, chat, sent in zip(usable, texts, chats, plain, strict=True):
        try:
            if isinstance(text, TokenizerError):
                raise text
            tokens = token_ids(tokenizer, text)
            prompts.append(Prompt(problem.id, text, tokens, chat if sent == text else ()))
        except TokenizerError as error:
            left_out[problem.id] = str(error)
    if not prompts:
        name, reason = next(iter(left_out.items()))
        raise ModelError(f"{where}: no problem can be asked; {ascii(name)}: {reason}")
    return tuple(prompts), left_out


def _chat(asking: PromptConfig, problem: Problem) -> tuple[Message, ...]:
    question = _message("user", asking.user_message(problem.statement, problem.prompt))
    if asking.system in (NO_SYSTEM, TEMPLATE_DEFAULT):
        return (question,)
    return _message("system", asking.system), question


def _write_without_system(
    tokenizer: Any, asked: Sequence[Message]
) -> Sequence[str | TokenizerError]:
    """The chats without any system message, also where the template has one of its own."""
    system, user = _message("system", "§"), _message("user", "?")
    chats = [[user], [system, user], [system]]
    chats += [[message] for message in asked] + [[system, message] for message in asked]
    plain, full, head, *written = write_chats(tokenizer, chats, closed=(2,))
    as_sent, with_system = written[: len(asked)], written[len(asked) :]
    if isinstance(plain, TokenizerError) or isinstance(full, TokenizerError):
        return as_sent  # it knows no system messages
    if _lacks_a_piece(plain, full, longer_than=len(system["content"])):
        return as_sent  # it adds nothing by itself
    cut = [full, *(text for text in with_system if isinstance(text, str))]
    if not (
        isinstance(head, str)
        and all(text.startswith(head) for text in cut)
        and plain.endswith(full.removeprefix(head))
    ):
        raise TokenizerError(
            "the system message that the chat template writes by itself cannot be told from the "
            "rest; instead of system: none give one, or an empty one (system: '')"
        )
    bos = str(tokenizer.bos_token or "")
    start = bos if head.startswith(bos) else ""
    return [
        start + text.removeprefix(head) if isinstance(text, str) else text for text in with_system
    ]


def _lacks_a_piece(short: str, long: str, longer_than: int) -> bool:
    """Whether ``short`` is ``long`` without one piece of it, and that piece has some length."""
    before = len(os.path.commonprefix([short, long]))
    after = len(os.path.commonprefix([short[::-1], long[::-1]]))
    return before + after >= len(short) and len(long) - len(short) > longer_than


def check_all_ask(problems: Sequence[Problem], where: str, asking: PromptConfig) -> None:
    """Refuse, with SuiteError, problems that have neither a statement nor a prompt.

    All arms would fail them, and so agree on them.
    """
    silent = [p.id for p in problems if not asking.question(p.statement, p.prompt).strip()]
    if silent:
        raise SuiteError(
            f"{where}: {len(silent)} of {len(problems)} problems have neither a statement nor a "
            f"prompt: {_some(silent)}. Import the suite again with --statements, or leave "
            "these problems out of it"
        )


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """sha256 of the problems' ids and tokens, or else messages, which all arms have in common."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(repr((prompt.problem, prompt.token_ids or prompt.messages)).encode())
    return digest.hexdigest()


def check_prompts_fit(
    prompts: Sequence[Prompt], max_new_tokens: int, context: int | None, where: str
) -> None:
    """Refuse, with ModelError, prompts that do not fit the context with a completion."""
    if context is None:
        return
    long = [p.problem for p in prompts if len(p.token_ids) + max_new_tokens > context]
    if long:
        raise ModelError(
            f"{where}: {len(long)} of {len(prompts)} prompts do not fit its {context} positions "
            f"with max_new_tokens = {max_new_tokens}: {_some(long)}. Lower it, or leave them out"
        )


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def plan_batches(
    prompts: Sequence[Prompt], decoding: DecodingConfig, batch_size: int | None = None
) -> tuple[Batch, ...]:
    """All completions of an arm, longest prompts first: memory runs out at once or never.

    A pure function, and a batch is redone as a whole if any row of it is missing: a resumed run, or
    one of several processes, runs the very same batches, and its texts are equal to the last bit.
    """
    rows = [Row(prompt, sample) for prompt in prompts for sample in range(decoding.samples)]
    rows.sort(key=lambda row: -len(row.prompt.token_ids))  # stable: the suite's order within
    size = batch_size or decoding.batch_size
    return tuple(tuple(rows[i : i + size]) for i in range(0, len(rows), size))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
