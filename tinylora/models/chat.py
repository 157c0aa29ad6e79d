"""A checkpoint's tokenizer and chat template, which are files of others.

Whatever is wrong with them ends in one error. Templates run in a bounded process, ``render_chats``.
"""

import json
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tinylora.errors import ModelCodeError, TokenizerError
from tinylora.models import render_chats
from tinylora.models.pretrained import load_auto

Chat = Sequence[Mapping[str, Any]]


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a checkpoint on the disk; a TokenizerError where it cannot be loaded."""
    try:
        tokenizer = load_auto("AutoTokenizer", directory)
    except ModelCodeError as error:
        raise TokenizerError(str(error)) from error
    except Exception as error:  # transformers raises whatever a malformed file leads to
        raise TokenizerError(f"{directory}: cannot load the tokenizer: {_words(error)}") from error
    # Without its files some classes come up with an empty vocabulary and say nothing.
    names = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any((directory / name).is_file() for name in names):
        files = ", ".join(sorted(names))
        raise TokenizerError(
            f"{directory}: has no tokenizer ({files}); copy the base's files there"
        )
    return tokenizer


def token_ids(tokenizer: Any, text: str, *, special_tokens: bool = False) -> tuple[int, ...]:
    """Tokens of a text, by default without those that the tokenizer puts around it.

    A TokenizerError where it is not valid Unicode, or the tokenizer is broken.
    """
    if reason := why_no_text(text):
        raise TokenizerError(f"the text {reason}")
    try:
        return tuple(tokenizer(text, add_special_tokens=special_tokens)["input_ids"])
    except Exception as error:  # as above
        raise TokenizerError(f"the tokenizer does not take it: {_words(error)}") from error


def why_no_text(text: str) -> str:
    """Where a string has half of a surrogate pair, which no tokenizer takes; else empty."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        return f"is no valid Unicode: character {error.start + 1} is half of a pair ({half})"
    return ""


def write_chats(
    tokenizer: Any, chats: Sequence[Chat], *, closed: Collection[int] = ()
) -> tuple[str | TokenizerError, ...]:
    """Put chats (messages with ``role`` and ``content``) into the tokenizer's chat template.

    A chat ends where the model's answer begins; those numbered in ``closed`` with their last
    message. Returns a text for each, or why the template did not take this one.

    Raises:
        TokenizerError: There is no template, or it took too much time or memory.
    """
    if not tokenizer.chat_template:
        raise TokenizerError(
            "the tokenizer has no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json); copy the base model's next to the weights"
        )
    asked = []
    for number, chat in enumerate(chats):
        messages = [{k: v for k, v in message.items() if v is not None} for message in chat]
        asked.append({"messages": messages, "add_generation_prompt": number not in closed})
    try:
        template, names = tokenizer.get_chat_template(), tokenizer.special_tokens_map
        request = json.dumps({"template": template, "names": names, "chats": asked}, default=str)
    except (ValueError, TypeError, RecursionError) as error:
        raise TokenizerError(f"the chat template cannot be used: {_words(error)}") from error
    return tuple(_text_or_error(**json.loads(line)) for line in _answers(request, len(chats)))


@lru_cache(maxsize=4)
def _answers(request: str, count: int) -> tuple[str, ...]:
    """What the process for it answers; all arms of a run ask the same."""
    child = subprocess.run(
        [sys.executable, "-P", render_chats.__file__], input=request.encode(), capture_output=True
    )
    lines = child.stdout.decode().splitlines()
    if child.returncode or len(lines) != count:
        raise TokenizerError(
            f"the chat template ended its process at chat {len(lines) + 1} of {count} (code "
            f"{child.returncode}): it takes too much time or memory, more than some "
            f"{render_chats.SECONDS} seconds of CPU or {render_chats.MEMORY_BYTES >> 20} MiB"
        )
    return tuple(lines)


def _text_or_error(text: str = "", error: str = "") -> str | TokenizerError:
    if error:
        return TokenizerError(f"the chat template does not take it: {_one_line(error)}")
    if reason := why_no_text(text):
        return TokenizerError(f"what the chat template writes {reason}")
    return text


def _words(error: Exception) -> str:
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    """What a file made someone say, without line breaks, control characters and endless length."""
    line = " ".join(text.split())[:300]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
