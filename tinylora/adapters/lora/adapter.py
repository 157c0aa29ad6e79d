"""A LoRA adapter: ΔW = scale · B · A.

The file has ``base_model.model.X.lora_A.weight``, ``[r, in]``, and ``….lora_B.weight``,
``[out, r]``, for each module X. Whatever else PEFT can store beside them is refused by name.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylora.adapters.adapter import AdapterSizes
from tinylora.adapters.lora.config import LoraConfig
from tinylora.adapters.peft_dialect import StoredAdapter
from tinylora.adapters.peft_directory import (
    CONFIG_FILE,
    PREFIX,
    Weights,
    adapter_files,
    open_weights,
    read_config,
)
from tinylora.errors import ArtifactError
from tinylora.files.digests import files_sha256

LEAVES = ("lora_A.weight", "lora_B.weight")
_PAIR = re.compile(rf"{re.escape(PREFIX)}(.+)\.lora_[AB]\.weight", re.DOTALL)
_OTHER_PARTS = {
    ".lora_embedding_A": "a LoRA on an embedding",
    ".lora_embedding_B": "a LoRA on an embedding",
    ".lora_magnitude_vector": "the magnitudes of DoRA",
    ".lora_A.bias": "a bias",
    ".lora_B.bias": "a bias",
    ".modules_to_save": "a module that was trained as a whole",
    ".token_adapter": "trained tokens",
    ".base_layer.": "a copy of the base's own layer (save_embedding_layers=False leaves it out)",
}


@dataclass(frozen=True, eq=False)
class LoraAdapter(StoredAdapter):
    """A checked adapter; A and B stay in the file until they are asked for."""

    config: LoraConfig

    @property
    def sizes(self) -> AdapterSizes:
        """The largest rank; there is no vector."""
        return AdapterSizes(max(r for _, _, r in self.shapes.values()), 0, 0, capped=True)

    def describe(self) -> dict[str, Any]:
        """What decides its delta, for a manifest."""
        ranks = Counter(r for _, _, r in self.shapes.values())
        scales = Counter(self.config.scale_of(name) for name in self.shapes)
        return {
            "dialect": "lora",
            "sha256": self.sha256,
            "ranks": {str(rank): count for rank, count in sorted(ranks.items())},
            "scales": {f"{scale:.9g}": count for scale, count in sorted(scales.items())},
            "use_rslora": self.config.use_rslora,
            "model_id": self.model_id,
            "modules": len(self.shapes),
        }


def load_lora_adapter(directory: str | Path) -> LoraAdapter:
    """Read and check what ``save_pretrained`` of a PEFT model with a LoRA made.

    Raises:
        ArtifactMissingError: One of its files is not there.
        ArtifactError: A file, field or tensor is damaged, missing or wrong; or there are others.
    """
    directory = Path(directory)
    config = read_config(directory, LoraConfig)
    with open_weights(directory) as weights:
        modules = sorted({_module_of(weights, name) for name in weights.shapes})
        if not modules:
            raise ArtifactError(f"{weights.file}: has no module (no tensor named *.lora_A.weight)")
        shapes = {module: _shape(config, weights, module) for module in modules}
        weights.check_finite()
    return LoraAdapter(directory, config, shapes, files_sha256(adapter_files(directory)))


def _module_of(weights: Weights, name: str) -> str:
    for part, meaning in _OTHER_PARTS.items():
        if part in name:
            remedy = "merge this adapter with PEFT, or train one without it"
            weights.refuse(name, f"is {meaning}, which cannot be folded here; {remedy}")
    found = _PAIR.fullmatch(name)
    if found is None:
        remedy = "was something else trained along with it? Merge it with PEFT"
        weights.refuse(name, f"is no part of a LoRA ({PREFIX}*.lora_A.weight and B's); {remedy}")
    return found[1]


def _shape(config: LoraConfig, weights: Weights, module: str) -> tuple[int, int, int]:
    names = [f"{PREFIX}{module}.{leaf}" for leaf in LEAVES]
    a, b = map(weights.shape, names)
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
        weights.refuse(
            names[0],
            f"and .{LEAVES[1]} have shapes {list(a)} and {list(b)}, expected [r, in] and [out, r] "
            "of a linear layer; other layers must be merged with PEFT",
        )
    if a[0] != (rank := config.rank_of(module)):
        weights.refuse(
            names[0],
            f"has rank {a[0]}, but {CONFIG_FILE} gives this module rank {rank} (r and "
            "rank_pattern), by which it is scaled; copy both files again",
        )
    if not config.names(module):
        weights.refuse(
            names[0], f"is none that target_modules of {CONFIG_FILE} names; copy both files again"
        )
    return b[0], a[1], a[0]
