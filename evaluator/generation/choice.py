"""Which token comes next: from logits by the decoding's rules to a choice, as transformers does it.

The same rules choose while a text is written, token by token, and while a draft is read, at all of
its positions at once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from evaluator.config.run_config import DecodingConfig
from evaluator.errors import ModelError
from evaluator.generation.noise import gumbel_noise
from tinylora.models.batches import padded

Text = tuple[Sequence[int], Sequence[int]]  # tokens of the prompt, and those written behind it

_POSITIONS_AT_ONCE = 8  # of a draft: what stands behind another choice is in vain
_VALUES_AT_ONCE = 5_000_000  # 40 MB of scores, and some times that while noise is made


def choosing(
    arm: str,
    decoding: DecodingConfig,
    keys: Tensor | None,
    offsets: Tensor,
    padding: Tensor,
) -> LogitsProcessorList:
    """What makes of scores those of which the largest is chosen.

    Args:
        arm: Name of the arm, for errors.
        decoding: The run's.
        keys: int64 [B, 4], of the noise of each row (``noise_key``); None: without noise.
        offsets: int64 [B]; with the width of the input they give the tokens written before.
        padding: int64 [B], how many tokens at the left are none of the text.
    """
    processors: list[LogitsProcessor] = []
    if decoding.penalty != 1:
        processors.append(_Penalty(decoding.penalty, padding))
    if decoding.temperature == 0:
        return LogitsProcessorList([*processors, _Temperature(arm, 1.0)])
    processors.append(_Temperature(arm, decoding.temperature))
    if decoding.top_k:
        processors.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        processors.append(TopPLogitsWarper(decoding.top_p))
    if keys is not None:
        processors.append(_GumbelNoise(keys, offsets))
    return LogitsProcessorList(processors)


def choose(
    arm: str,
    decoding: DecodingConfig,
    keys: Sequence[Sequence[int]],
    texts: Sequence[Text],
    logits: Tensor,
) -> Tensor:
    """The next token of some texts, int64 ``[rows]``; the arguments are those of ``scores``."""
    return scores(arm, decoding, keys, texts, logits).argmax(dim=1)


def agreement(
    arm: str,
    decoding: DecodingConfig,
    keys: Sequence[Sequence[int]],
    texts: Sequence[Text],
    drafts: Sequence[Sequence[int]],
    logits: Sequence[Tensor],
) -> list[tuple[int, tuple[int, ...]]]:
    """Of each draft how many tokens are chosen, and what is chosen in place of the next, if any.

    Args:
        arm: Name of the arm, for errors.
        decoding: The run's; its repetition penalty is a number or None.
        keys: Of each text's noise (``noise_key``).
        texts: What stands already of each text.
        drafts: Of each text the token ids that may follow.
        logits: Of each text ``[len(draft), vocabulary]``, which predict them.
    """
    agreed = [0] * len(drafts)
    other: list[tuple[int, ...]] = [()] * len(drafts)
    rows = [row for row, draft in enumerate(drafts) if draft]
    at_once = max(1, _VALUES_AT_ONCE // (_POSITIONS_AT_ONCE * logits[0].shape[1]))
    while rows:
        some, rows = rows[:at_once], rows[at_once:]
        places = {
            row: range(agreed[row], min(agreed[row] + _POSITIONS_AT_ONCE, len(drafts[row])))
            for row in some
        }
        chosen = choose(
            arm,
            decoding,
            [keys[row] for row in some for _ in places[row]],
            [_behind(texts[row], drafts[row][:place]) for row in some for place in places[row]],
            torch.cat([logits[row][own.start : own.stop] for row, own in places.items()]),
        )
        sizes = [len(own) for own in places.values()]
        for row, tokens in zip(some, torch.split(chosen.cpu(), sizes), strict=True):
            for token in tokens.tolist():
                if token != drafts[row][agreed[row]]:
                    other[row] = (token,)
                    break
                agreed[row] += 1
            if not other[row] and agreed[row] < len(drafts[row]):
                rows.append(row)
    return list(zip(agreed, other, strict=True))


def scores(
    arm: str,
    decoding: DecodingConfig,
    keys: Sequence[Sequence[int]] | None,
    texts: Sequence[Text],
    logits: Tensor,
) -> Tensor:
    """What the decoding makes of logits behind some texts, float64 ``[rows, vocabulary]``.

    Args:
        arm: Name of the arm, for errors.
        decoding: The run's; its repetition penalty is a number or None.
        keys: Of each row's noise (``noise_key``); None: without noise.
        texts: Of each row.
        logits: ``[rows, vocabulary]``.

    Returns:
        The largest is chosen; a token that is ruled out has −inf.
    """
    device = logits.device
    written = torch.tensor([len(own) for _, own in texts], device=device)
    ids = mask = torch.empty((len(texts), 0), dtype=torch.long, device=device)
    if decoding.penalty != 1:  # nothing else asks which tokens there are
        read = [(*prompt, *own) for prompt, own in texts]
        ids, mask = (part.to(device) for part in padded(read, left=True))
    rules = choosing(
        arm,
        decoding,
        None if keys is None else torch.tensor(keys, device=device),
        written - ids.shape[1],
        (mask == 0).sum(dim=1),
    )
    found: Tensor = rules(ids, logits.float())
    return found


def _behind(text: Text, more: Sequence[int]) -> Text:
    prompt, written = text
    return prompt, (*written, *more)


class _Penalty(LogitsProcessor):  # type: ignore[misc]
    """transformers' repetition penalty, without padding: older releases count it."""

    def __init__(self, penalty: float, padding: Tensor) -> None:
        self.rule = RepetitionPenaltyLogitsProcessor(penalty)
        self.padding = padding.unsqueeze(1)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)
        # the last token is of the text, so that it stands for nothing new
        penalized: Tensor = self.rule(
            input_ids.where(columns >= self.padding, input_ids[:, -1:]), scores
        )
        return penalized


class _Temperature(LogitsProcessor):  # type: ignore[misc]
    """Divides float64 logits by the temperature, and stops at logits that are not numbers."""

    def __init__(self, arm: str, temperature: float) -> None:
        self.arm = arm
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if bool(torch.isnan(scores).any()):
            raise ModelError(
                f"arm {self.arm}: the model's logits are not numbers (NaN); try another "
                "compute_dtype, and check the checkpoint"
            )
        return scores.double() / self.temperature


class _GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Adds the noise of each row and position, so that greedy decoding draws a sample."""

    def __init__(self, keys: Tensor, offsets: Tensor) -> None:
        self.keys = keys
        self.offsets = offsets

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, V] to scores plus noise; a token that is ruled out (−inf) stays so."""
        positions = self.offsets + input_ids.shape[1]
        return scores + gumbel_noise(self.keys, positions, scores.shape[-1])
