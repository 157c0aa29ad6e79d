"""Logits of chosen positions, in bounded memory.

The full logits of a batch would take gigabytes: 4096 positions of a vocabulary of 152 000 are
2.5 GB in float32. So only the compared positions go through the output layer, at most some hundred
at a time, and those of the reference wait on the disk, in the model's own dtype, until the last
arm has been compared with them. One model is in memory at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from evaluator.errors import GenerationError, ModelError
from evaluator.tokens.texts import MOST_OF_A_TEXT, ScoredText
from tinylora.models.batches import TensorSpool, right_padded

_POSITIONS_AT_ONCE = 4096
_REPEAT_TEXTS = 3

TextBatch = tuple[ScoredText, ...]


def plan_text_batches(texts: Sequence[ScoredText]) -> tuple[TextBatch, ...]:
    """All texts, the longest first, so that little is padded.

    A pure function of the texts, so that a resumed run computes in the same batches.
    """
    return _batches(sorted(texts, key=lambda text: -len(text.token_ids)), len(texts))


def plan_repeat(texts: Sequence[ScoredText]) -> tuple[TextBatch, ...]:
    """All texts in other company and with other padding: in the suite's order, few at a time."""
    return _batches(texts, _REPEAT_TEXTS)


def _batches(texts: Sequence[ScoredText], most: int) -> tuple[TextBatch, ...]:
    """The texts in order, at most so many at a time, within the bounds on positions."""
    batches: list[tuple[ScoredText, ...]] = [()]
    for text in texts:
        batch = (*batches[-1], text)
        width = max(len(text.token_ids) for text in batch)
        scored = sum(len(text.positions) for text in batch)
        fits = width * len(batch) <= _POSITIONS_AT_ONCE and scored <= MOST_OF_A_TEXT
        if batches[-1] and (len(batch) > most or not fits):
            batches.append((text,))
        else:
            batches[-1] = batch
    return tuple(batches)


@torch.inference_mode()
def logits_of(arm: str, model: PreTrainedModel, batch: TextBatch) -> tuple[Tensor, ...]:
    """Logits of the compared positions.

    Args:
        arm: Name of the arm, for errors.
        model: In eval mode.
        batch: Some texts.

    Returns:
        For each text ``[positions, vocabulary]`` in the dtype and on the device of the model.

    Raises:
        GenerationError: They are not numbers.
        ModelError: The model has no output layer, or does something else with its outputs.
    """
    ids, mask = (part.to(model.device) for part in right_padded([t.token_ids for t in batch]))
    rows = [row for row, text in enumerate(batch) for _ in text.positions]
    columns = [position for text in batch for position in text.positions]
    head: nn.Module | None = model.get_output_embeddings()
    if head is None:
        raise ModelError(
            f"arm {arm}: {type(model).__name__} names no output layer, so its predictions cannot "
            "be compared; set token_level.enabled: false"
        )

    def select(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        states, *others = arguments  # [texts, width, hidden] to [1, compared, hidden]
        return states[rows, columns].unsqueeze(0), *others

    handle = head.register_forward_pre_hook(select)
    try:
        logits: Tensor = model(ids, attention_mask=mask, use_cache=False).logits
    finally:
        handle.remove()
    if logits.shape[:2] != (1, len(rows)):
        raise ModelError(
            f"arm {arm}: expected logits of shape [1, {len(rows)}, vocabulary], found "
            f"{list(logits.shape)}; set token_level.enabled: false"
        )
    if not bool(torch.isfinite(logits).all()):
        raise GenerationError(
            f"arm {arm}: the model's logits on the reference's completions are not all finite; "
            "try another compute_dtype, and check the checkpoint"
        )
    return torch.split(logits[0], [len(text.positions) for text in batch])


class ReferenceLogits:
    """Logits of the reference on the disk, one file a text.

    Args:
        directory: An empty directory; the caller removes it.
    """

    def __init__(self, directory: Path) -> None:
        self._spool = TensorSpool(directory)
        self._numbers: dict[str, int] = {}

    def keep(self, text: ScoredText, logits: Tensor) -> None:
        """Store a text's logits ``[positions, vocabulary]``."""
        number = self._numbers.setdefault(text.problem, len(self._numbers))
        self._spool.keep(str(number), logits)

    def load(self, text: ScoredText, device: torch.device) -> Tensor:
        """A text's logits ``[positions, vocabulary]``."""
        return self._spool.load(str(self._numbers[text.problem]), device)
