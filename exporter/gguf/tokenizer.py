"""The tokenizer section of a GGUF file, made of the tokenizer that transformers loads.

llama.cpp has two kinds: byte-level BPE, whose splitting of text into words has a name there, and
SentencePiece, whose merges are an order of scores.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.base.carried_files import TOKENIZER_FILES
from exporter.errors import PlanError
from exporter.gguf.families import gguf_package
from tinylora.models.pretrained import load_auto

_SPACE = "\u2581"  # SentencePiece's sign for a space
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
# How text is split into words -> llama.cpp's name of it (``src/llama-vocab.cpp``).
_SPLITS: Mapping[tuple[str, ...], str] = {
    ("words",): "gpt-2",
    ("digits", "words"): "smollm",
    (rf"{_HEAD}\p{{N}}{_TAIL}", "bytes"): "qwen2",
    (rf"{_HEAD}\p{{N}}{{1,3}}{_TAIL}", "bytes"): "llama-bpe",
}
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def describe_tokenizer(writer: Any, path: Path, vocabulary: int) -> None:
    """Give a ``gguf.GGUFWriter`` the tokenizer of a base.

    Args:
        writer: The writer.
        path: The directory of the base.
        vocabulary: Rows of its embedding; those without a token become unused ones.

    Raises:
        PlanError: There is no tokenizer, or llama.cpp has none that splits text as it does.
    """
    tokenizer = _load(path)
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    model = content["model"]
    if model["type"] != "BPE":
        raise _unknown(path, f"for its kind {model['type']}")
    if not model["merges"]:
        raise _unknown(path, "it has no merges")
    pieces = bool(model["byte_fallback"])
    tokens, types = _tokens(content, vocabulary, path, pieces)
    merges = [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]
    if pieces:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_add_space_prefix(_prefixes_space(content, path))
        writer.add_token_scores(_scores(tokens, merges))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_split_name(content, path))
        writer.add_token_merges(merges)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for name in ("bos", "eos", "unk", "pad"):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    around = tokenizer("").input_ids
    writer.add_add_bos_token(tokenizer.bos_token_id in around[:1])
    writer.add_add_eos_token(tokenizer.eos_token_id in around[-1:])
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _load(path: Path) -> Any:
    def missing(why: str) -> PlanError:
        return PlanError(
            f"{path}: a GGUF file holds the tokenizer, and transformers loads none from here "
            f"({why:.200}); copy the tokenizer's files into the base"
        )

    if not any((path / name).exists() for name in TOKENIZER_FILES):
        raise missing(f"none of {', '.join(TOKENIZER_FILES)} is there")  # it may make an empty one
    try:
        tokenizer = load_auto("AutoTokenizer", path)
        tokenizer.backend_tokenizer.to_str()
    except Exception as error:  # transformers raises whatever damaged files lead to
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise missing(said) from error
    return tokenizer


def _tokens(
    content: Mapping[str, Any], vocabulary: int, path: Path, pieces: bool
) -> tuple[list[str], list[int]]:
    """Text and type of each token, in the order of their numbers."""
    kinds, model = gguf_package().TokenType, content["model"]
    added = {token["id"]: token for token in content["added_tokens"]}
    texts = {number: text for text, number in model["vocab"].items()}
    texts |= {number: token["content"] for number, token in added.items()}
    if max(texts) >= vocabulary:
        raise PlanError(
            f"{path}: the tokenizer has the token {max(texts)}, the model {vocabulary} rows of "
            "embedding; give the files of one model"
        )
    types = []
    for number in range(vocabulary):
        text = texts.setdefault(number, f"[PAD{number}]")
        if number in added:
            types.append(kinds.CONTROL if added[number]["special"] else kinds.USER_DEFINED)
            if pieces and not added[number]["special"]:
                texts[number] = text.replace(_SPACE, " ")
        elif pieces and _BYTE.fullmatch(text):
            types.append(kinds.BYTE)
        else:
            types.append(kinds.NORMAL if text in model["vocab"] else kinds.UNUSED)
        if pieces and text == model["unk_token"]:
            types[-1] = kinds.UNKNOWN
    return [texts[number] for number in range(vocabulary)], [int(kind) for kind in types]


def _scores(tokens: Sequence[str], merges: Sequence[str]) -> list[float]:
    """Higher for what is merged earlier; of tokens that no merge makes, none is looked at."""
    made: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        made.setdefault(merge.replace(" ", ""), rank)
    return [-float(made.get(token, len(merges))) for token in tokens]


def _split_name(content: Mapping[str, Any], path: Path) -> str:
    steps = tuple(_step(step) for step in _parts(content["pre_tokenizer"], "pretokenizers"))
    normalizers = {step["type"] for step in _parts(content["normalizer"], "normalizers")}
    if steps not in _SPLITS or not normalizers <= {"NFC"}:
        found = json.dumps({k: content[k] for k in ("pre_tokenizer", "normalizer")})
        raise _unknown(path, f"for its way of splitting text ({found:.300})")
    return _SPLITS[steps]


def _step(step: Mapping[str, Any]) -> str:
    """One step of splitting, in a word or by its pattern; empty if it is not known."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": regex}:
            return "words" if regex else "bytes"
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated"}:
            return "" if step["invert"] else pattern
    return ""


def _prefixes_space(content: Mapping[str, Any], path: Path) -> bool:
    """Whether a space goes before the text; spaces become visible signs either way."""
    prefixes = False
    steps = _parts(content["normalizer"], "normalizers")
    for step in (*steps, *_parts(content["pre_tokenizer"], "pretokenizers")):
        match step:
            case {"type": "Prepend", "prepend": "\u2581"}:
                prefixes = True
            case {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme}:
                prefixes = scheme != "never"
            case {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}:
                pass
            case {"type": "Split", "pattern": {"String": " "}}:  # there are none left then
                pass
            case _:
                raise _unknown(path, f"for its way of splitting text ({json.dumps(step):.300})")
    return prefixes


def _parts(step: Mapping[str, Any] | None, key: str) -> Sequence[Mapping[str, Any]]:
    """The steps of a sequence of them, or the one that there is."""
    if step is None:
        return ()
    return tuple(step[key]) if step["type"] == "Sequence" else (step,)


def _unknown(path: Path, what: str) -> PlanError:
    return PlanError(
        f"{path}: llama.cpp has no name for the tokenizer, {what}; known are those of Qwen, "
        "Llama 2 and 3, Gemma, SmolLM and GPT-2; use fp32 or lora and llama.cpp's own converter"
    )
