"""A checkpoint's ``config.json``, read as a file of others.

transformers believes every number in it: with no heads it divides by zero, with 2⁴⁰ hidden units it
asks for all memory, and a name in ``llm_int8_skip_modules`` is a regular expression that may never
end. So what can hang or crash a loader is refused before one is asked.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tinylora.errors import ModelConfigError

_MAX_DEPTH = 32
_MOST = {  # of counts that a model must have where its architecture names them, at least 1 of each
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 22,
    "num_hidden_layers": 1 << 12,
    "num_attention_heads": 1 << 14,
    "num_key_value_heads": 1 << 14,
    "head_dim": 1 << 16,
    "vocab_size": 1 << 24,
    "max_position_embeddings": 1 << 40,
}
# Modules by name, as transformers and vLLM write them, or with a few wildcards.
_MODULE_NAME = re.compile(r"[\w.\-]*(\.?\*[\w.\-]*){0,3}[$]?")


def check_model_config(config: Mapping[str, Any], path: Path) -> None:
    """Refuse what no model can have, with a ModelConfigError that names file and field."""
    for problem in _problems(config):
        raise ModelConfigError(
            f"{path}: {problem}; is this the file of the base? download it again"
        )


def _problems(config: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[str]:
    """What a loader would stumble over."""
    if depth > _MAX_DEPTH:
        yield f"{prefix:.40}... nests deeper than {_MAX_DEPTH} levels"
        return
    for name, most in _MOST.items():
        value = config.get(name)
        # some architectures have a list of one a layer
        if not isinstance(value, list | None) and not _is_count(value, most):
            yield f"{prefix}{name} is {_shown(value)}, expected a whole number from 1 to {most}"
    # a padding token outside of the vocabulary has no embedding
    pad, size = config.get("pad_token_id"), config.get("vocab_size")
    if isinstance(pad, int) and isinstance(size, int) and not -size <= pad < size:
        yield f"{prefix}pad_token_id is {_shown(pad)}, expected below vocab_size, {size}"
    settings = config.get("quantization_config")
    if isinstance(settings, dict):
        yield from _skipped(settings.get("llm_int8_skip_modules"))
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _problems(value, f"{prefix}{name}.", depth + 1)


def _skipped(names: Any) -> Iterator[str]:
    if not isinstance(names, list | None):
        yield f"llm_int8_skip_modules is {_shown(names)}, expected a list of names of modules"
        return
    for name in names or ():
        if not isinstance(name, str) or not _MODULE_NAME.fullmatch(name):
            yield f"llm_int8_skip_modules has {_shown(name)}, expected the name of a module"


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):
        return f"a huge {type(value).__name__}"
