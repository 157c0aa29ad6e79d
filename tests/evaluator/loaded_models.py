"""Models as the transformers backend loads them, and what they write."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch

from evaluator.config.run_config import ArmConfig, DecodingConfig
from evaluator.generation.backend import ModelRequest
from evaluator.generation.backends.transformers import BACKEND, TransformersModel
from evaluator.generation.checkpoints import find_checkpoint
from evaluator.generation.prompts import plan_batches

ANY_ARM = ArmConfig(name="base", kind="base", model="unused")
CPU = torch.device("cpu")


def loaded(arm, factors, dtype="float32", **options):
    """The arm's model, inside a ``with``."""
    files = find_checkpoint(arm)
    request = ModelRequest(arm, files.facts, files, DecodingConfig(), 0, dtype, CPU, factors)
    return BACKEND.load(replace(request, **options))


def completions(model, tokenizer, prompts, decoding, pad_id=None, drafts=None):
    """(problem, sample) -> completion, of a model that a test brings along."""
    files = SimpleNamespace(
        directory=Path(tokenizer.name_or_path), positions=model.config.max_position_embeddings
    )
    unused = Path("unused")
    request = ModelRequest(ANY_ARM, None, files, decoding, decoding.seed, "float32", CPU, unused)
    generator = TransformersModel(model, request)
    generator.pad_id = generator.pad_id if pad_id is None else pad_id
    made = {}
    for batch in plan_batches(prompts, decoding):
        keys = [(row.prompt.problem, row.sample) for row in batch]
        own = None if drafts is None else [drafts[key] for key in keys]
        made |= zip(keys, generator.complete(batch, own), strict=True)
    return made
