"""The plan of the batches: a pure function of the prompts and the decoding.

A batch is redone as a whole if any row of it is missing. So a resumed run, or one spread over
several processes, runs the very same batches, and its texts are equal to the last bit.
"""

from collections.abc import Sequence
from typing import NamedTuple

from evaluator.config.run_config import DecodingConfig
from evaluator.generation.prompts import Prompt


class Row(NamedTuple):
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
