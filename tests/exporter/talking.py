"""A tiny real tokenizer with a chat template, and files of texts."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

BYTES = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
MARKS = {"<|user|>": 256, "<|system|>": 257, "<|bot|>": 258, "<|end|>": 259}
VOCABULARY = 320
TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] not in ('user', 'system') %}{{ raise_exception('unknown role') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)


def ids_of(text: str) -> list[int]:
    """Byte-level ids of an ASCII text without marks and spaces."""
    return [BYTES[character] for character in text]


def write_tokenizer(directory: Path, template: str | None = TEMPLATE) -> None:
    tokenizer = Tokenizer(models.BPE(vocab=BYTES, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(MARKS))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    wrapped.chat_template = template
    wrapped.save_pretrained(directory)


def write_rows(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
