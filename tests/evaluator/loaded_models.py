"""Models as the transformers backend loads them, and what they write."""

from pathlib import Path

import torch

from evaluator.config.run_config import ArmConfig, DecodingConfig
from evaluator.generation.backend import ModelRequest
from evaluator.generation.backends.transformers import BACKEND, TransformersModel
from evaluator.generation.checkpoints import find_checkpoint
from evaluator.generation.prompts import plan_batches

ANY_ARM = ArmConfig(name="base", kind="base", model="unused")


def loaded(arm, factors, dtype="float32"):
    """The arm's model, inside a ``with``."""
    return BACKEND.load(
        ModelRequest(
            arm=arm,
            checkpoint=find_checkpoint(arm),
            decoding=DecodingConfig(),
            seed=0,
            compute_dtype=dtype,
            device=torch.device("cpu"),
            factors=factors,
        )
    )


def completions(model, tokenizer, prompts, decoding, **options):
    """(problem, sample) -> completion, of a model that a test brings along."""
    request = ModelRequest(
        ANY_ARM, None, decoding, decoding.seed, "float32", torch.device("cpu"), Path("unused")
    )
    generator = TransformersModel(model, request, tokenizer, **options)
    return {
        (row.prompt.problem, row.sample): completion
        for batch in plan_batches(prompts, decoding)
        for row, completion in zip(batch, generator.complete(batch), strict=True)
    }
