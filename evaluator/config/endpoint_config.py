"""An arm behind an endpoint that speaks OpenAI's protocol, as vLLM, SGLang and llama.cpp do."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue

from evaluator.config.config_file import Section

# Fields that decide no text: another way to the same model, or how patiently it is asked.
HOW_ASKED = {"base_url", "api_key_env", "concurrency", "timeout_s", "retries", "backoff_s"}
_OURS = {"model", "messages", "prompt", "temperature", "top_p", "max_tokens", "seed", "stream", "n"}


def _plain_url(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("expected http://HOST:PORT/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("expected no user, password or query; a key goes by api_key_env")
    return url.rstrip("/")


def _nothing_of_ours(extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if taken := sorted(_OURS & extra.keys()):
        raise ValueError(f"{', '.join(taken)}: set by the run itself")
    return extra


class EndpointConfig(Section):
    """Where a model is served, and how it is asked.

    Attributes:
        base_url: Up to ``/v1``.
        model: Its name at the endpoint.
        api: ``chat`` sends messages, which the server puts into its chat template; ``completions``
            sends the tokens that the other arms read.
        api_key_env: Name of the environment variable that holds the key.
        concurrency: Requests at a time.
        timeout_s: Seconds without a byte of an answer; one that is written takes as long.
        retries: Further tries of a request that failed for a passing reason.
        backoff_s: Wait before the first of them, doubled each time up to a minute.
        extensions: Send ``top_k``, ``min_p`` and ``repetition_penalty`` too, which are not
            OpenAI's: a server that knows them may else take its own from the model's files.
        extra: Further fields of each request.
    """

    base_url: Annotated[str, Field(pattern="^https?://"), AfterValidator(_plain_url)]
    model: str = Field(min_length=1)
    api: Literal["chat", "completions"] = "chat"
    api_key_env: str | None = Field(default=None, pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    concurrency: int = Field(default=8, ge=1, le=1024)
    timeout_s: float = Field(default=600.0, gt=0)
    retries: int = Field(default=8, ge=0)
    backoff_s: float = Field(default=1.0, gt=0, le=60)
    extensions: bool = True
    extra: Annotated[dict[str, JsonValue], AfterValidator(_nothing_of_ours)] = {}
