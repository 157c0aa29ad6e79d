"""Every model, configuration and tokenizer that transformers reads from a directory.

Only files of the directory are read, and no Python in it ever runs: where ``auto_map`` names code,
transformers would else ask on a terminal and, at a ``y``, run it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from tinylora.errors import ModelCodeError

_LOCK = Lock()


def load_auto(kind: str, directory: Path, **options: Any) -> Any:
    """What one of transformers' classes, such as ``AutoTokenizer``, makes of a directory."""
    import transformers

    with _no_code(directory):
        return getattr(transformers, kind).from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, **options
        )


def load_model(directory: Path, **options: Any) -> Any:
    """What ``AutoModelForCausalLM`` makes of a directory, with options of ``from_pretrained``."""
    with _making_a_model():
        return load_auto("AutoModelForCausalLM", directory, **options)


def trainer_nf4() -> Any:
    """Upstream's ``BitsAndBytesConfig``: nf4 in blocks of 64, double quantization, on loading."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
    )


def load_outline(directory: Path) -> Any:
    """The model of a directory's ``config.json``, without memory for its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    config = load_auto("AutoConfig", directory)
    with _making_a_model(), torch.device("meta"), _no_code(directory):
        # no dtype: torch's default, which other threads compute with, stays what it is
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=None)


def load_generation_config(directory: Path) -> Any:
    """What a model of the directory takes its generation settings from."""
    from transformers import GenerationConfig

    return GenerationConfig.from_pretrained(directory, local_files_only=True)


@contextmanager
def _no_code(directory: Path) -> Iterator[None]:
    """Say in the project's words that a model needs code of its own."""
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ModelCodeError(
            f"{directory}: its auto_map names Python code of the model's own, which transformers "
            "does not have; such models are not supported, and code of a model's directory is "
            "never run"
        ) from error


@contextmanager
def _making_a_model() -> Iterator[None]:
    """Around the making of a model.

    transformers meanwhile exchanges what all threads share: torch's default dtype, and methods of
    its classes. The default is float32 in here: bitsandbytes makes its code books in it.
    """
    import torch

    with _LOCK:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
