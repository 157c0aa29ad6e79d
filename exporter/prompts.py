"""Texts on which two models are compared token by token, read from a file.

``.jsonl``: one object a line, with

* ``messages`` (a chat, as transformers' templates take it) or ``prompt`` (one user message), put
  into the tokenizer's chat template, and perhaps ``completion``: then only the predictions of the
  completion's tokens, and of what follows them, are compared;
* or ``text``, taken as it is; every prediction is compared.

``.txt``: one ``text`` a line.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from exporter.errors import PromptError

MAX_FILE_BYTES = 1 << 28


@dataclass(frozen=True)
class TokenPrompt:
    """One tokenized text.

    Attributes:
        token_ids: All of its tokens.
        first: First position whose prediction is compared.
    """

    token_ids: tuple[int, ...]
    first: int

    @property
    def scored(self) -> int:
        """Number of predictions that are compared."""
        return len(self.token_ids) - self.first


@dataclass(frozen=True)
class PromptSet:
    """The texts of one file.

    Attributes:
        prompts: In the file's order.
        sha256: Hex digest of the file.
    """

    prompts: tuple[TokenPrompt, ...]
    sha256: str

    @property
    def tokens(self) -> int:
        """Number of predictions that are compared."""
        return sum(prompt.scored for prompt in self.prompts)


def read_prompts(path: Path, model: Path) -> PromptSet:
    """Read and tokenize a file of texts.

    Args:
        path: A ``.jsonl`` or ``.txt`` file, see the module's text.
        model: Directory of the checkpoint whose tokenizer and chat template are used.

    Raises:
        PromptError: The file cannot be read, a row is not as described, a text does not fit the
            model's context, or the tokenizer is missing.
    """
    rows = _rows(path)
    if not rows:
        raise PromptError(f"{path}: holds no text; give at least one")
    tokenizer = _tokenizer(model)
    limit = _context(model)
    prompts = []
    for number, row in rows:
        where = f"{path}, line {number}"
        prompt = _tokenized(row, tokenizer, where)
        if limit is not None and len(prompt.token_ids) > limit:
            raise PromptError(
                f"{where}: {len(prompt.token_ids)} tokens, but {model} has {limit} positions; "
                "shorten the text"
            )
        prompts.append(prompt)
    return PromptSet(tuple(prompts), hashlib.sha256(path.read_bytes()).hexdigest())


def _rows(path: Path) -> Sequence[tuple[int, dict[str, Any]]]:
    if path.suffix not in (".jsonl", ".txt"):
        raise PromptError(f"{path}: expected a .jsonl or .txt file of prompts")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PromptError(f"{path}: larger than {MAX_FILE_BYTES} bytes; give a sample of it")
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    if path.suffix == ".txt":
        return [(n, {"text": line}) for n, line in numbered]
    return [(n, _row(line, f"{path}, line {n}")) for n, line in numbered]


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise PromptError(f"{where}: is no JSON ({error})") from error
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


def _tokenizer(model: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise PromptError(f"{model}: cannot load a tokenizer to read prompts ({error})") from error


def _tokenized(row: dict[str, Any], tokenizer: Any, where: str) -> TokenPrompt:
    if "text" in row:
        ids = tokenizer(row["text"])["input_ids"]
        first = 0
    else:
        before = _templated(row, tokenizer, where)
        ids = before + _ids(tokenizer, row.get("completion", ""))
        first = len(before) - 1 if "completion" in row else 0
    if not ids:
        raise PromptError(f"{where}: has no token")
    return TokenPrompt(tuple(ids), first)


def _templated(row: dict[str, Any], tokenizer: Any, where: str) -> list[int]:
    if not tokenizer.chat_template:
        raise PromptError(
            f"{where}: the base's tokenizer has no chat template for 'messages' or 'prompt'; give "
            "'text' rows"
        )
    messages = row.get("messages") or [{"role": "user", "content": row.get("prompt")}]
    # the template's own error type depends on the template engine
    if not all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages):
        raise PromptError(f"{where}: 'messages' must be objects with 'role' and 'content' texts")
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return _ids(tokenizer, text)


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text that has its special tokens already."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _context(model: Path) -> int | None:
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PromptError(f"{model / 'config.json'}: cannot be read ({error})") from error
    limit = config.get("max_position_embeddings")
    return limit if isinstance(limit, int) else None
