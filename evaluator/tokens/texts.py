"""Which tokens the arms are compared on: prompts and the reference's completions, in which batches.

All is thinned out evenly, without chance. A completion is tokenized anew from its text; all arms
read the same tokens, whatever was written.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from evaluator.generation.backend import TokenText
from evaluator.generation.prompts import Prompt
from evaluator.store.records import GenerationRecord, Key

MOST_TEXTS = 128
MOST_OF_A_TEXT = 512  # bounds the logits of one text: 311 MB for a vocabulary of 152 000

_POSITIONS_AT_ONCE = 4096  # of a batch, with padding
_REPEAT_TEXTS = 3  # of a batch

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class ScoredText(TokenText):
    """One prompt with a completion: tokens up to the last compared position, and the positions."""

    problem: str
    sample: int

    @property
    def digest(self) -> str:
        """sha256 of what is compared, and how."""
        compared = (self.token_ids, self.positions, "float32")
        return hashlib.sha256(repr(compared).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """Of its predictions; no other text of a run has it."""
        return hashlib.sha256(self.problem.encode()).hexdigest()


TextBatch = tuple[ScoredText, ...]


def choose_texts(
    arm: str,
    prompts: Sequence[Prompt],
    generations: Mapping[Key, GenerationRecord],
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    max_tokens: int,
) -> tuple[ScoredText, ...]:
    """The texts of the reference and their positions, in the suite's order.

    At most ``max_tokens`` predictions are compared, in completions of ``max_new_tokens`` at most.
    """
    texts: list[tuple[Prompt, tuple[int, ...]]] = []
    places: list[tuple[int, int]] = []
    for number, prompt in enumerate(evenly(prompts, MOST_TEXTS)):
        record = generations[arm, prompt.problem, 0]
        made = tokenizer(record.text, add_special_tokens=False)["input_ids"][:max_new_tokens]
        texts.append((prompt, (*prompt.token_ids, *made)))
        first = len(prompt.token_ids) - 1  # its prediction is the completion's first token
        predictions = len(made) + (record.finish_reason == "stop")
        places += [(number, first + i) for i in evenly(range(predictions), MOST_OF_A_TEXT)]
    chosen: dict[int, list[int]] = {}
    for number, position in evenly(places, max_tokens):
        chosen.setdefault(number, []).append(position)
    return tuple(
        ScoredText(texts[n][1][: positions[-1] + 1], tuple(positions), texts[n][0].problem, 0)
        for n, positions in chosen.items()
    )


def evenly(items: Sequence[_Item], most: int) -> Sequence[_Item]:
    """All items, or ``most`` of them, each from the middle of its share.

    >>> evenly(range(3), 5), evenly("abcdefgh", 3)
    (range(0, 3), ['b', 'e', 'g'])
    """
    if len(items) <= most:
        return items
    return [items[(2 * i + 1) * len(items) // (2 * most)] for i in range(most)]


def plan_text_batches(texts: Sequence[ScoredText]) -> tuple[TextBatch, ...]:
    """All texts, the longest first; a pure function of them, so a resumed run has equal batches."""
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
