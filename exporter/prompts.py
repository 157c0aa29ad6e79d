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

from jinja2 import TemplateError

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
    content = _content(path)
    rows = _rows(path, content)
    if not rows:
        raise PromptError(f"{path}: holds no text; give at least one")
    positions, vocabulary = _limits(model)
    tokenizer = _tokenizer(model)
    prompts = []
    for number, row in rows:
        where = f"{path}, line {number}"
        prompt = _tokenized(row, tokenizer, where)
        if positions is not None and len(prompt.token_ids) > positions:
            raise PromptError(
                f"{where}: {len(prompt.token_ids)} tokens, but {model} has {positions} positions; "
                "shorten the text"
            )
        if vocabulary is not None and max(prompt.token_ids) >= vocabulary:
            raise PromptError(
                f"{where}: token {max(prompt.token_ids)}, but {model} embeds {vocabulary}; "
                "tokenizer and config.json do not belong together"
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


def _tokenizer(model: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise PromptError(f"{model}: cannot load a tokenizer to read prompts ({error})") from error
    # without its files some classes come up with an empty vocabulary and say nothing
    files = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any((model / name).is_file() for name in files):
        raise PromptError(
            f"{model}: has no tokenizer to read prompts with, expected one of "
            f"{', '.join(sorted(files))}; copy it there"
        )
    return tokenizer


def _tokenized(row: dict[str, Any], tokenizer: Any, where: str) -> TokenPrompt:
    if "text" in row:
        ids = tokenizer(row["text"])["input_ids"]
        first = 0
    else:
        before = _templated(row, tokenizer, where)
        ids = before + _ids(tokenizer, row.get("completion", ""))
        first = max(len(before) - 1, 0) if "completion" in row else 0
    if not ids:
        raise PromptError(f"{where}: has no token")
    return TokenPrompt(tuple(ids), first)


def _templated(row: dict[str, Any], tokenizer: Any, where: str) -> list[int]:
    if not tokenizer.chat_template:
        raise PromptError(
            f"{where}: the base's tokenizer has no chat template for 'messages' or 'prompt'; give "
            "'text' rows"
        )
    messages = row.get("messages", [{"role": "user", "content": row.get("prompt")}])
    if not messages or not all(_is_message(message) for message in messages):
        raise PromptError(
            f"{where}: 'messages' must be objects with 'role' and 'content' texts, at least one"
        )
    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise PromptError(
            f"{where}: the base's chat template does not take these messages ({error}); see which "
            "roles it knows and in which order"
        ) from error
    return _ids(tokenizer, text)


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and all(
        isinstance(message.get(name), str) for name in ("role", "content")
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text that has its special tokens already."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _limits(model: Path) -> tuple[int | None, int | None]:
    """Positions and vocabulary of a model, where its config.json says them."""
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PromptError(f"{model / 'config.json'}: cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise PromptError(f"{model / 'config.json'}: expected an object")
    found = [config.get(name) for name in ("max_position_embeddings", "vocab_size")]
    positions, vocabulary = (limit if isinstance(limit, int) else None for limit in found)
    return positions, vocabulary
