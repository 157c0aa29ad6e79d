"""Requests and answers as OpenAI's protocol has them, for endpoints and for files of batches."""

from collections.abc import Mapping
from typing import Any

from evaluator.checked import LARGEST_WHOLE
from evaluator.config.endpoint_config import EndpointConfig
from evaluator.config.run_config import DecodingConfig
from evaluator.errors import shown
from evaluator.generation.backend import Completion
from evaluator.generation.noise import noise_key
from evaluator.generation.prompts import Message
from evaluator.store.records import FinishReason

CHAT_PATH = "/chat/completions"
TEXT_PATH = "/completions"
_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}


def request_seed(seed: int, problem: str, sample: int) -> int:
    """Seed of one completion, 0 … 2³¹ − 1: engines draw equal texts for equal seeds."""
    return noise_key(seed, problem, sample)[0] >> 1


def sampling_fields(decoding: DecodingConfig, seed: int, extensions: bool) -> dict[str, Any]:
    """The fields of a request that say how it is decoded; ``seed`` is that of one completion.

    With ``extensions`` nothing is left to an engine's own defaults.
    """
    fields: dict[str, Any] = {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "max_tokens": decoding.max_new_tokens,
        "seed": seed,
    }
    if extensions:
        penalty = decoding.penalty
        fields |= {"top_k": decoding.top_k or -1, "min_p": 0.0, "repetition_penalty": penalty}
    return fields


def unsaid_fields(decoding: DecodingConfig, endpoint: EndpointConfig) -> list[str]:
    """Fields of the decoding that change texts and that no request to the endpoint would say."""
    if endpoint.extensions:
        return []
    said = endpoint.extra.keys()
    unsaid = []
    if decoding.temperature > 0 and decoding.top_k and "top_k" not in said:
        unsaid.append("top_k")
    if decoding.penalty != 1 and not {"repetition_penalty", "repeat_penalty"} & said:
        unsaid.append("repetition_penalty")
    return unsaid


def chat_fields(model: str, messages: tuple[Message, ...]) -> dict[str, Any]:
    """The fields of a chat request that say what is asked of whom."""
    return {"model": model, "messages": [dict(message) for message in messages]}


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
    return Completion(text, _whole(count), _REASONS[reason], engine=engine_of(body))


def engine_of(body: Mapping[str, Any]) -> str:
    """What an answer says of who made it: the model's name and the server's fingerprint."""
    said = (body.get("model"), body.get("system_fingerprint"))
    words = (" ".join(word.split())[:200] for word in said if isinstance(word, str))
    return ", ".join(filter(None, words)).encode(errors="replace").decode()


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= LARGEST_WHOLE else 0
