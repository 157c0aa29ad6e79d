"""Which token comes next: from logits by the decoding's rules to a choice, as transformers does it.

The same rules choose while a text is written, token by token, and while a draft is read, at all of
its positions at once.
"""

from collections.abc import Iterator, Sequence

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

_POSITIONS_AT_ONCE = 32  # 39 MB of scores over 152 000 tokens; the noise takes some of that more


def choosing(
    arm: str,
    decoding: DecodingConfig,
    keys: Tensor | None,
    offsets: Tensor,
    padding: Tensor | None = None,
) -> LogitsProcessorList:
    """What makes of scores those of which the largest is chosen.

    Args:
        arm: Name of the arm, for errors.
        decoding: The run's.
        keys: int64 [B, 4], of the noise of each row (``noise_key``); None: without noise.
        offsets: int64 [B]; with the width of the input they give the tokens written before.
        padding: int64 [B], tokens at the left that are none of the text; None: there are none.
    """
    processors: list[LogitsProcessor] = []
    if decoding.penalty != 1:
        none = torch.zeros_like(offsets)
        processors.append(_Penalty(decoding.penalty, none if padding is None else padding))
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
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    logits: Tensor,
) -> Tensor:
    """The next token of some texts that an engine is writing, int64 ``[rows]``.

    Args:
        arm: Name of the arm, for errors.
        decoding: The run's; its repetition penalty is a number or None.
        keys: Of each row's noise (``noise_key``).
        texts: Of each row the prompt's tokens, and those written behind it.
        logits: ``[rows, vocabulary]``.
    """
    written = torch.tensor([len(own) for _, own in texts], device=logits.device)
    read: list[Sequence[int]] = [()] * len(texts)
    if decoding.penalty != 1:  # nothing else asks which tokens there are
        read = [(*prompt, *own) for prompt, own in texts]
    ids, mask = (part.to(logits.device) for part in padded(read, left=True))
    rules = choosing(
        arm,
        decoding,
        torch.tensor(keys, device=logits.device),
        written - ids.shape[1],
        (mask == 0).sum(dim=1),
    )
    chosen: Tensor = rules(ids, logits.float()).argmax(dim=1)
    return chosen


def agreement(
    arm: str,
    decoding: DecodingConfig,
    key: Sequence[int],
    prompt: Sequence[int],
    draft: Sequence[int],
    logits: Tensor,
    written: int = 0,
) -> tuple[int, tuple[int, ...]]:
    """How many tokens of a draft are chosen, and what is chosen in place of the next, if any.

    The arguments are those of ``scores``.
    """
    agreed = 0
    for part in scores(arm, decoding, key, prompt, draft, logits, written):
        for token in part.argmax(dim=1).tolist():
            if token != draft[agreed]:
                return agreed, (token,)
            agreed += 1
    return agreed, ()


def scores(
    arm: str,
    decoding: DecodingConfig,
    key: Sequence[int] | None,
    prompt: Sequence[int],
    draft: Sequence[int],
    logits: Tensor,
    written: int = 0,
) -> Iterator[Tensor]:
    """What the decoding makes of logits at each position of a draft, had it been written so far.

    Args:
        arm: Name of the arm, for errors.
        decoding: The run's; its repetition penalty is a number or None.
        key: Of the row's noise; None: without noise.
        prompt: Token ids that it follows.
        draft: Token ids.
        logits: [len(draft), V] at the positions that predict them.
        written: How many of the prompt's tokens the arm itself wrote.

    Yields:
        float64 [n, V], for some positions at a time; a token that is ruled out has −inf.
    """
    tokens = torch.tensor([*prompt, *draft[:-1]], device=logits.device)
    steps = torch.arange(len(draft), device=logits.device)
    for part in torch.split(steps, _POSITIONS_AT_ONCE):
        # what stands behind a position is hidden by the first token, which is there anyway
        columns = torch.arange(len(tokens), device=logits.device)
        ids = tokens.where(columns < len(prompt) + part.unsqueeze(1), tokens[0])
        keys = None
        if key is not None:
            keys = torch.tensor([key], device=logits.device).expand(len(part), -1)
        rules = choosing(arm, decoding, keys, part + written - len(tokens))
        yield rules(ids, logits[part].float())


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
