"""Loads an export with plain transformers, and compares its logits with the restored model's."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporter.base.carried_files import TOKENIZER_FILES
from exporter.compare.float32_model import load_exact, load_plain, restored_model
from exporter.formats.format import Format
from tinylora import DeltaOptions
from tinylora.errors import TokenizerError
from tinylora.models.chat import load_tokenizer, write_chats
from tinylora.models.float32_view import in_float32
from tinylora.models.pretrained import load_auto, load_generation_config
from tinylora.workers import single_threaded

_TOKENS = 64
_CHAT = ({"role": "user", "content": "Sum two numbers."},)
_OTHERS: Mapping[str, Callable[[Path], Any]] = {
    "generation_config.json": load_generation_config,
    "preprocessor_config.json": partial(load_auto, "AutoProcessor"),
    "processor_config.json": partial(load_auto, "AutoProcessor"),
}


@dataclass(frozen=True)
class LogitComparison:
    """Logits of an export against those of the restored model, on fixed tokens, all in float32.

    Attributes:
        residual: ‖export − restored‖ / ‖base − restored‖; None where the adapter changes nothing.
        change: ‖base − restored‖ / ‖base‖, how much the adapter changes at all.
    """

    largest: float
    residual: float | None
    change: float


def check_load(directory: Path, layout: Format) -> tuple[str, ...]:
    """What is wrong with an export that plain ``from_pretrained`` loads and runs on the CPU."""
    try:
        model = load_plain(directory)
        problems = (*layout.loaded_problems(model), *_beside_the_weights(directory))
        if bool(torch.isfinite(_logits(model)).all()):
            return problems
        return (*problems, "logits are not finite")
    except Exception as error:  # there is no saying what a library raises on files that it rejects
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return (f"{directory}: cannot be loaded and run ({said:.300})",)


def _beside_the_weights(directory: Path) -> Iterator[str]:
    """What is wrong with what is loaded beside the weights, where it is there."""
    if any((directory / name).exists() for name in TOKENIZER_FILES):
        try:
            tokenizer = load_tokenizer(directory)
            if tokenizer.chat_template:
                answers = write_chats(tokenizer, [_CHAT])
                yield from (str(one) for one in answers if isinstance(one, TokenizerError))
        except TokenizerError as error:
            yield str(error)
    for name, load in _OTHERS.items():
        try:
            if (directory / name).exists():
                load(directory)
        except ImportError:  # of a library for images, which is no fault of the export
            continue
        except Exception as error:  # as above
            yield f"{name}: cannot be loaded ({' '.join(str(error).split()):.300})"


def compare_logits(
    directory: Path, base: Path, artifact: Path, options: DeltaOptions, *, in_4_bits: bool = True
) -> LogitComparison:
    """Compare an export, which stands on 4-bit weights or not, with the restored model."""
    with single_threaded():  # sums, those of a base that is quantized too, depend on the threads
        of_export = _logits(load_exact(directory))
        model, restoration = restored_model(base, artifact, options, in_4_bits=in_4_bits)
        of_restored = _logits(in_float32(model))
        restoration.remove()
        of_base = _logits(model)
    change = float((of_base - of_restored).norm())
    return LogitComparison(
        largest=float((of_export - of_restored).abs().max()),
        residual=float((of_export - of_restored).norm()) / change if change > 0 else None,
        change=change / float(of_base.norm()),
    )


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    model.eval()
    size = model.get_input_embeddings().num_embeddings
    tokens = (torch.arange(_TOKENS) * 7919 % size).unsqueeze(0)
    logits: Tensor = model(tokens).logits
    return logits.float()
