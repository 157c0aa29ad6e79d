"""Texts on which two models are compared token by token, read from a file.

``.jsonl``: one object a line, with ``messages`` (a chat) or ``prompt`` (one user message), put into
the tokenizer's chat template, and perhaps ``completion``: then only the predictions of its tokens,
and of what follows them, are compared; or with ``text``, taken as it is. ``.txt``: one text a line.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.base.checkpoint import CONFIG_FILE, read_json
from exporter.errors import PromptError
from tinylora.errors import TokenizerError
from tinylora.models.chat import load_tokenizer, token_ids, write_chats

MAX_FILE_BYTES = 1 << 28


@dataclass(frozen=True)
class TokenPrompt:
    """One tokenized text, and the first position whose prediction is compared."""

    token_ids: tuple[int, ...]
    first: int

    @property
    def positions(self) -> range:
        """The positions whose predictions are compared."""
        return range(self.first, len(self.token_ids))


@dataclass(frozen=True)
class PromptSet:
    """The texts of one file, in its order, and the file's hex digest."""

    prompts: tuple[TokenPrompt, ...]
    sha256: str

    @property
    def tokens(self) -> int:
        """Number of predictions that are compared."""
        return sum(len(prompt.positions) for prompt in self.prompts)


def read_prompts(path: Path, model: Path) -> PromptSet:
    """Read and tokenize a file of texts, with the tokenizer and chat template of ``model``.

    Raises:
        PromptError: The file or a row is not as described, or does not fit the model.
        TokenizerError: The base has no tokenizer that can be used.
    """
    content = _content(path)
    rows = _rows(path, content)
    if not rows:
        raise PromptError(f"{path}: holds no text; give at least one")
    config = read_json(model / CONFIG_FILE)
    if isinstance(inner := config.get("text_config"), dict):  # of a model with more than texts
        config = inner
    found = [config.get(name) for name in ("max_position_embeddings", "vocab_size")]
    positions, vocabulary = (limit if isinstance(limit, int) else None for limit in found)
    tokenizer = load_tokenizer(model)
    written = _written(path, rows, tokenizer)
    prompts = []
    for number, row in rows:
        where = f"{path}, line {number}"
        prompt = _tokenized(row, written.get(number, ""), tokenizer, where)
        if positions is not None and len(prompt.token_ids) > positions:
            count = len(prompt.token_ids)
            raise PromptError(f"{where}: {count} tokens, {model} has {positions} positions; cut it")
        if vocabulary is not None and (last := max(prompt.token_ids)) >= vocabulary:
            raise PromptError(
                f"{where}: token {last}, but {model} embeds {vocabulary}; is the tokenizer its own?"
            )
        prompts.append(prompt)
    return PromptSet(tuple(prompts), hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    if path.suffix not in (".jsonl", ".txt"):
        raise PromptError(f"{path}: expected a .jsonl or .txt file of prompts")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PromptError(f"{path}: larger than {MAX_FILE_BYTES} bytes; give a sample of it")
        return path.read_bytes()
    except OSError as error:
        raise PromptError(f"{path}: cannot be read ({error})") from error


def _rows(path: Path, content: bytes) -> Sequence[tuple[int, dict[str, Any]]]:
    try:
        text = content.decode("utf-8-sig")  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PromptError(f"{path}, line {line}: is not UTF-8 text ({error})") from error
    lines = text.replace("\r\n", "\n").split("\n")
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    if path.suffix == ".txt":
        return [(n, {"text": line}) for n, line in numbered]
    return [(n, _row(line, f"{path}, line {n}")) for n, line in numbered]


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{where}: is no JSON text ({error})") from error
    kinds = {"messages": list, "prompt": str, "text": str}
    if not isinstance(row, dict) or sum(key in row for key in kinds) != 1:
        raise PromptError(
            f"{where}: expected an object with one of 'messages', 'prompt' and 'text'; "
            f"found {sorted(row) if isinstance(row, dict) else type(row).__name__}"
        )
    for key, kind in (kinds | {"completion": str}).items():
        if key in row and not isinstance(row[key], kind):
            raise PromptError(f"{where}: {key!r} is no {kind.__name__}")
    if "text" in row and "completion" in row:
        raise PromptError(f"{where}: 'completion' goes with 'prompt' or 'messages', not 'text'")
    return row


def _written(
    path: Path, rows: Sequence[tuple[int, dict[str, Any]]], tokenizer: Any
) -> dict[int, str]:
    """The chats of all rows that have one, in the base's chat template, by the rows' numbers."""
    chats = {}
    for number, row in rows:
        if "text" not in row:
            chat = row.get("messages", [{"role": "user", "content": row.get("prompt")}])
            if not chat or not all(_is_message(message) for message in chat):
                expected = "at least one object with 'role' and 'content' texts in 'messages'"
                raise PromptError(f"{path}, line {number}: expected {expected}")
            chats[number] = chat
    if not chats:
        return {}
    number = next(iter(chats))
    written = {}
    try:
        answers = write_chats(tokenizer, list(chats.values()))
        for number, answer in zip(chats, answers, strict=True):
            if isinstance(answer, TokenizerError):
                raise answer
            written[number] = answer
    except TokenizerError as error:
        raise PromptError(
            f"{path}, line {number}: {error}; see which roles the base's chat template knows and "
            "in which order, or give 'text' rows"
        ) from error
    return written


def _tokenized(row: dict[str, Any], chat: str, tokenizer: Any, where: str) -> TokenPrompt:
    try:
        if "text" in row:
            ids, first = token_ids(tokenizer, row["text"], special_tokens=True), 0
        else:
            before = token_ids(tokenizer, chat)
            ids = before + token_ids(tokenizer, row.get("completion", ""))
            first = max(len(before) - 1, 0) if "completion" in row else 0
    except TokenizerError as error:
        raise PromptError(f"{where}: {error}") from error
    if not ids:
        raise PromptError(f"{where}: has no token")
    return TokenPrompt(ids, first)


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and all(
        isinstance(message.get(name), str) for name in ("role", "content")
    )
