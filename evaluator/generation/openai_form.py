"""Requests and answers as OpenAI's protocol has them, for endpoints and for files of batches."""

from collections.abc import Mapping
from typing import Any

from evaluator.checked import LARGEST_WHOLE
from evaluator.config.run_config import DecodingConfig
from evaluator.errors import shown
from evaluator.generation.backend import Completion
from evaluator.generation.noise import noise_key
from evaluator.generation.prompts import Prompt
from evaluator.store.records import FinishReason

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}


def request_seed(seed: int, problem: str, sample: int) -> int:
    """Seed of one completion, 0 … 2³¹ − 1: engines draw equal texts for equal seeds."""
    return noise_key(seed, problem, sample)[0] >> 1


def request_body(
    model: str,
    prompt: Prompt,
    decoding: DecodingConfig,
    seed: int,
    api: str = "chat",
    extensions: bool = True,
) -> dict[str, Any]:
    """The fields of a request; ``seed`` is that of one completion.

    With ``extensions`` nothing is left to an engine's own defaults.
    """
    chat = api == "chat"
    asked = {"messages": [*map(dict, prompt.messages)]} if chat else {"prompt": prompt.token_ids}
    fields: dict[str, Any] = {
        "model": model,
        **asked,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "max_tokens": decoding.max_new_tokens,
        "seed": seed,
    }
    if extensions:
        penalty = decoding.penalty
        fields |= {"top_k": decoding.top_k or -1, "min_p": 0.0, "repetition_penalty": penalty}
    return fields


def read_answer(body: Any) -> Completion:
    """The completion in the body of an answer; a ValueError says what is wrong with it."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not (isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict)):
        raise ValueError(f"expected an object with one of 'choices', found {shown(body)}")
    (choice,) = choices
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    if text is None and isinstance(message, dict):
        text = ""  # cut off within what a server keeps apart as reasoning
    if not isinstance(text, str):
        raise ValueError(f"expected a text in message.content or text, found {shown(text)}")
    reason = choice.get("finish_reason")
    if reason not in _REASONS:
        raise ValueError(f"expected finish_reason stop or length, found {shown(reason)}")
    usage = body.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if type(count) is not int or not 0 <= count <= LARGEST_WHOLE:
        count = 0
    engine = engine_of(body, "model", "system_fingerprint")
    return Completion(text, count, _REASONS[reason], engine=engine)


def engine_of(body: Mapping[str, Any], *fields: str) -> str:
    """What an answer says in these fields of who made it."""
    said = (body.get(field) for field in fields)
    words = (" ".join(word.split())[:200] for word in said if isinstance(word, str))
    return ", ".join(filter(None, words)).encode(errors="replace").decode()
