"""What is in a PEFT TinyLoRA adapter, and what about it looks odd."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from exporter.inspect.vector_words import about_vector, vector_summary
from exporter.plan.ground import trained_on
from tinylora import DeltaOptions, PeftAdapter


@dataclass(frozen=True)
class PeftInspection:
    """An adapter and remarks on it.

    Attributes:
        adapter: The adapter.
        remarks: What looks odd or needs a decision, in plain words.
    """

    adapter: PeftAdapter
    remarks: tuple[str, ...]

    @property
    def takes(self) -> str:
        """The options that an export would take by itself, for display."""
        return "factors as stored in the adapter"

    @property
    def vector_name(self) -> str:
        """Key of the trained numbers in :meth:`as_dict`."""
        return "v"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        adapter, config = self.adapter, self.adapter.config
        return {
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
            "remarks": list(self.remarks),
        }


def inspect_peft(adapter: PeftAdapter) -> PeftInspection:
    """Remark on an adapter."""
    return PeftInspection(adapter, tuple(_remarks(adapter)))


def _remarks(adapter: PeftAdapter) -> Iterator[str]:
    config = adapter.config
    leaves = Counter(name.rsplit(".", 1)[-1] for name in adapter.shapes)
    yield "modules: " + ", ".join(f"{count} {leaf}" for leaf, count in sorted(leaves.items()))
    yield from about_vector(adapter.vectors, "v")
    if not config.base:
        yield "names no base model: nothing can warn of a wrong one but the shapes"
    if not config.save_projection:
        yield (
            "the projections are drawn again from the seed, numbered by the base's module order; "
            "--format peft-tinylora stores them"
        )
    if trained_on(adapter, DeltaOptions()) == "16bit":
        yield (
            "PEFT trains TinyLoRA on 16-bit weights, and dense exports add it to those; if the "
            "base was in 4 bits all the same, say --trained-on 4bit"
        )
    else:
        yield "made by an export from an adapter that was trained on the base in 4 bits"
