"""Batches of texts, and the reference's logits on the disk, so that memory stays bounded.

The logits of 4096 positions of a vocabulary of 152 000 are 2.5 GB in float32. So models are asked
for some hundred positions at a time, and the reference's logits wait on the disk, in the model's
own dtype, until the last arm has been compared with them. One model is in memory at a time.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from evaluator.tokens.texts import MOST_OF_A_TEXT, ScoredText
from tinylora.models.batches import TensorSpool

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
