"""What is in a PEFT TinyLoRA adapter, and what about it looks odd."""

from collections.abc import Iterator

from tinylora.adapters.inspection import Inspection, about_modules, about_vector, vector_summary
from tinylora.adapters.options import TrainedOn
from tinylora.adapters.peft.adapter import PeftAdapter


def inspect(adapter: PeftAdapter, trained_on: TrainedOn) -> Inspection:
    """An adapter's facts and remarks on it."""
    config = adapter.config
    facts = {
        "directory": adapter.path.name,
        "sha256": adapter.sha256,
        "dialect": "PEFT TinyLoRA",
        "base_model_name_or_path": config.base,
        "modules": len(adapter.shapes),
        "rank": config.r,
        "u": config.u,
        "vectors": adapter.vectors.shape[0],
        "weight_tying": config.weight_tying,
        "projection": "stored" if config.save_projection else f"seed {config.projection_seed}",
        "v": vector_summary(adapter.vectors),
    }
    takes = "factors as stored in the adapter"
    return Inspection(adapter, facts, "v", takes, tuple(_remarks(adapter, trained_on)))


def _remarks(adapter: PeftAdapter, trained_on: TrainedOn) -> Iterator[str]:
    config = adapter.config
    yield about_modules(adapter.shapes)
    yield from about_vector(adapter.vectors, "v")
    if not config.base:
        yield "names no base model: nothing can warn of a wrong one but the shapes"
    if not config.save_projection:
        yield (
            "the projections are drawn again from the seed, numbered by the base's module order; "
            "--format peft-tinylora stores them"
        )
    if trained_on == "16bit":
        yield (
            "PEFT trains TinyLoRA on 16-bit weights, and dense exports add it to those; if the "
            "base was in 4 bits all the same, say --trained-on 4bit"
        )
    else:
        yield "made by an export from an adapter that was trained on the base in 4 bits"
