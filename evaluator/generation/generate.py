"""Completions of one model, batch by batch.

The plan of the batches is a pure function of the prompts and the decoding, and a batch is redone
as a whole if any row of it is missing. So a killed and resumed run, or one spread over several
processes, runs the very same batches as an uninterrupted one, and its texts are equal to the last
bit on the same machine. Between different batch sizes float rounding differs and can turn a near
tie.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from evaluator.config.run_config import DecodingConfig
from evaluator.errors import GenerationError
from evaluator.generation.noise import gumbel_noise, noise_key, noise_keys
from evaluator.generation.prompts import Prompt
from evaluator.store.records import GenerationRecord


@dataclass(frozen=True)
class Row:
    """One completion to make."""

    prompt: Prompt
    sample: int


Batch = tuple[Row, ...]


def plan_batches(prompts: Sequence[Prompt], decoding: DecodingConfig) -> tuple[Batch, ...]:
    """All completions of one arm, longest prompts first so that memory runs out at once or never.

    Args:
        prompts: The suite's prompts.
        decoding: For the samples and the batch size.
    """
    rows = [Row(prompt, sample) for prompt in prompts for sample in range(decoding.samples)]
    rows.sort(key=lambda row: -len(row.prompt.token_ids))  # stable: the suite's order within
    size = decoding.batch_size
    return tuple(tuple(rows[i : i + size]) for i in range(0, len(rows), size))


def share_of(batches: Sequence[Batch], rank: int, world: int) -> tuple[Batch, ...]:
    """The batches of one of ``world`` processes; the longest are spread evenly.

    Args:
        batches: Longest first; the same in all processes.
        rank: 0 … world − 1.
        world: Number of processes.
    """
    return tuple(batches[rank::world])


@dataclass(frozen=True)
class Generator:
    """A loaded model with what is needed to write completions for an arm.

    Attributes:
        arm: Name of the arm.
        model: In eval mode.
        tokenizer: Of the same checkpoint.
        decoding: How to draw.
        seed: Seed of the noise.
        end_ids: Tokens that end a completion.
        pad_id: Padding token.
    """

    arm: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    decoding: DecodingConfig
    seed: int
    end_ids: tuple[int, ...]
    pad_id: int

    def complete(self, batches: Sequence[Batch]) -> Iterator[tuple[GenerationRecord, ...]]:
        """Write the completions of each batch.

        Raises:
            GenerationError: The model's logits are not numbers.
        """
        for batch in batches:
            yield self._complete_batch(batch)

    def _complete_batch(self, batch: Batch) -> tuple[GenerationRecord, ...]:
        start = time.monotonic()
        ids, mask = _left_padded(batch, self.pad_id, self.model.device)
        # The model's own generation_config must not add anything to what the run's file says.
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self.decoding.max_new_tokens,
            eos_token_id=list(self.end_ids),
            pad_token_id=self.pad_id,
            # Comes before the processors below, and leaves padding out of what was said.
            repetition_penalty=self.decoding.repetition_penalty,
        )
        with torch.inference_mode():
            sequences = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                logits_processor=self._processors(batch, ids.shape[1]),
            )
        seconds = (time.monotonic() - start) / len(batch)
        rows = sequences[:, ids.shape[1] :].tolist()
        return tuple(
            self._record(row, tokens, seconds) for row, tokens in zip(batch, rows, strict=True)
        )

    def _processors(self, batch: Batch, prompt_length: int) -> LogitsProcessorList:
        decoding = self.decoding
        if decoding.temperature == 0:
            return LogitsProcessorList([_Temperature(self.arm, 1.0)])
        processors: list[LogitsProcessor] = [_Temperature(self.arm, decoding.temperature)]
        if decoding.top_k:
            processors.append(TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1:
            processors.append(TopPLogitsWarper(decoding.top_p))
        keys = [noise_key(self.seed, row.prompt.problem, row.sample) for row in batch]
        processors.append(GumbelNoise(noise_keys(keys, self.model.device), prompt_length))
        return LogitsProcessorList(processors)

    def _record(self, row: Row, tokens: list[int], seconds: float) -> GenerationRecord:
        ends = [i for i, token in enumerate(tokens) if token in self.end_ids]
        written = tokens[: ends[0]] if ends else tokens
        text = self.tokenizer.decode(
            written, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return GenerationRecord(
            arm=self.arm,
            problem=row.prompt.problem,
            sample=row.sample,
            text=text,
            token_count=len(written) + bool(ends),
            finish_reason="stop" if ends else "length",
            seconds=round(seconds, 6),
        )


class _Temperature(LogitsProcessor):  # type: ignore[misc]
    """Divides float64 logits by the temperature, and stops at logits that are not numbers."""

    def __init__(self, arm: str, temperature: float) -> None:
        self.arm = arm
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits [B, V] to float64 [B, V]."""
        if bool(torch.isnan(scores).any()):
            raise GenerationError(
                f"arm {self.arm}: the model's logits are not numbers (NaN) after "
                f"{input_ids.shape[1]} tokens; try another compute_dtype, and check the checkpoint"
            )
        return scores.double() / self.temperature


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Adds the noise of each row and position, so that greedy decoding draws a sample."""

    def __init__(self, keys: Tensor, prompt_length: int) -> None:
        """Take the batch's keys [B, 4] and the length of the padded prompts."""
        self.keys = keys
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, V] to scores plus noise; a token that is ruled out (−inf) stays so."""
        position = input_ids.shape[1] - self.prompt_length
        return scores + gumbel_noise(self.keys, position, scores.shape[-1])


def end_and_pad(model: PreTrainedModel, tokenizer: Any, where: str) -> tuple[tuple[int, ...], int]:
    """Tokens that end a completion, from generation_config and tokenizer, and one to pad with.

    Raises:
        GenerationError: Neither names an end token.
    """
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    ids = sorted({i for i in (*ends, tokenizer.eos_token_id) if i is not None})
    if not ids:
        raise GenerationError(
            f"{where}: neither generation_config.json nor the tokenizer names an end token "
            "(eos_token_id)"
        )
    pad = tokenizer.pad_token_id
    return tuple(ids), ids[0] if pad is None else int(pad)


def _left_padded(batch: Batch, pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(len(row.prompt.token_ids) for row in batch)
    ids = torch.full((len(batch), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(batch):
        tokens = torch.tensor(row.prompt.token_ids)
        ids[index, longest - len(tokens) :] = tokens
        mask[index, longest - len(tokens) :] = 1
    return ids.to(device), mask.to(device)
