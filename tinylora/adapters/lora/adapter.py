"""A LoRA adapter: ΔW = scale · B · A.

The file has ``base_model.model.X.lora_A.weight``, ``[r, in]``, and ``….lora_B.weight``,
``[out, r]``, for each module X. Whatever else PEFT can store beside them is refused by name.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tinylora.adapters.adapter import AdapterSizes
from tinylora.adapters.lora.config import LoraConfig, read_config
from tinylora.adapters.peft_dialect import StoredAdapter
from tinylora.adapters.peft_directory import (
    CONFIG_FILE,
    PREFIX,
    WEIGHTS_FILE,
    adapter_files,
    check_finite,
    open_weights,
    read_tensors,
    tensor_shapes,
)
from tinylora.errors import ArtifactError
from tinylora.files.digests import files_sha256

_LEAVES = (".lora_A.weight", ".lora_B.weight")
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

    def read(self, module: str) -> tuple[Tensor, Tensor]:
        """A and B of a module, in the file's dtypes; an ArtifactError if the file has changed."""
        a, b = read_tensors(self.path, [f"{PREFIX}{module}{leaf}" for leaf in _LEAVES])
        return a, b


def load_lora_adapter(directory: str | Path) -> LoraAdapter:
    """Read and check what ``save_pretrained`` of a PEFT model with a LoRA made.

    Raises:
        ArtifactMissingError: One of its files is not there.
        ArtifactError: A file is damaged, oversized or a pickle; a field or tensor is missing, out
            of range, not finite or of another shape; or the adapter is more than pairs of A and B.
    """
    directory = Path(directory)
    config = read_config(directory)
    file = directory / WEIGHTS_FILE
    with open_weights(directory) as opened:
        shapes = _module_shapes(file, config, tensor_shapes(file, opened))
        check_finite(file, opened)
    return LoraAdapter(directory, config, shapes, files_sha256(adapter_files(directory)))


def _module_shapes(
    file: Path, config: LoraConfig, tensors: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, int, int]]:
    """Shapes of all modules, with every tensor accounted for."""
    modules = sorted({_module_of(file, name) for name in tensors})
    if not modules:
        raise ArtifactError(f"{file}: has no module (no tensor named *.lora_A.weight)")
    return {module: _shape(file, config, tensors, module) for module in modules}


def _module_of(file: Path, name: str) -> str:
    for part, meaning in _OTHER_PARTS.items():
        if part in name:
            raise ArtifactError(
                f"{file}: tensor {name!r} is {meaning}, which cannot be folded here; merge this "
                "adapter with PEFT, or train one without it"
            )
    for leaf in _LEAVES:
        module = name.removeprefix(PREFIX).removesuffix(leaf)
        if name == f"{PREFIX}{module}{leaf}" and module:
            return module
    raise ArtifactError(
        f"{file}: tensor {name!r} is no part of a LoRA ({PREFIX}*.lora_A.weight and "
        "*.lora_B.weight); was something else trained along with it? Merge it with PEFT"
    )


def _shape(
    file: Path, config: LoraConfig, tensors: Mapping[str, tuple[int, ...]], module: str
) -> tuple[int, int, int]:
    names = [f"{PREFIX}{module}{leaf}" for leaf in _LEAVES]
    for name in names:
        if name not in tensors:
            raise ArtifactError(f"{file}: tensor {name!r} is missing; copy the adapter again")
    a, b = (tensors[name] for name in names)
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
        raise ArtifactError(
            f"{file}: tensors {names[0]!r} and {_LEAVES[1]} have shapes {list(a)} and {list(b)}, "
            "expected [r, in] and [out, r] of a linear layer; other layers must be merged with PEFT"
        )
    if a[0] != config.rank_of(module):
        raise ArtifactError(
            f"{file}: tensor {names[0]!r} has rank {a[0]}, but {CONFIG_FILE} gives this module "
            f"rank {config.rank_of(module)} (r and rank_pattern), by which it is scaled; copy both "
            "files again"
        )
    if not config.names(module):
        raise ArtifactError(
            f"{file}: has tensors for {module}, which target_modules of {CONFIG_FILE} does not "
            "name; copy both files again"
        )
    return b[0], a[1], a[0]
