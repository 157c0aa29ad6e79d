"""The plan of the batches: a pure function of the prompts and the decoding.

A batch is redone as a whole if any row of it is missing. So a resumed run, or one spread over
several processes, runs the very same batches, and its texts are equal to the last bit on the same
machine; with another batch size float rounding can turn a near tie.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.config.run_config import DecodingConfig
from evaluator.generation.prompts import Prompt


@dataclass(frozen=True)
class Row:
    """One completion to make."""

    prompt: Prompt
    sample: int


Batch = tuple[Row, ...]


def plan_batches(prompts: Sequence[Prompt], decoding: DecodingConfig) -> tuple[Batch, ...]:
    """All completions of an arm, longest prompts first: memory runs out at once or never."""
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
