"""A PEFT TinyLoRA adapter: ΔW = B · (Σᵢ vᵢ Pᵢ) · A, see ``tensors``.

As A and B are in the file, no SVD is needed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinylora.adapters.adapter import AdapterSizes
from tinylora.adapters.peft.tensors import (
    PeftConfig,
    group_count,
    module_shapes,
    vector_keys,
)
from tinylora.adapters.peft_dialect import StoredAdapter
from tinylora.adapters.peft_directory import adapter_files, open_weights, read_config
from tinylora.files.digests import files_sha256


@dataclass(frozen=True, eq=False)
class PeftAdapter(StoredAdapter):
    """A checked adapter; A, B and P stay in the file until they are asked for.

    Attributes:
        vectors: The trained vectors, ``[groups, u]``, in the file's dtype, on the CPU.
    """

    config: PeftConfig
    vectors: Tensor

    @property
    def sizes(self) -> AdapterSizes:
        """Sizes of its tensors."""
        return AdapterSizes(self.config.r, self.config.u, self.vectors.shape[0], capped=True)

    def describe(self) -> dict[str, Any]:
        """What decides its delta, for a manifest."""
        return {
            "dialect": "peft",
            "sha256": self.sha256,
            "v": self.vectors.double().tolist(),
            "u": self.config.u,
            "rank": self.config.r,
            "weight_tying": self.config.weight_tying,
            "projection_seed": self.config.projection_seed,
            "save_projection": self.config.save_projection,
            "model_id": self.model_id,
            "modules": len(self.shapes),
        }


def load_peft_adapter(directory: str | Path) -> PeftAdapter:
    """Read and check what ``save_pretrained`` of a PEFT model with a TinyLoRA made.

    Raises:
        ArtifactMissingError: One of its files is not there.
        ArtifactError: A file, field or tensor is damaged, missing, unknown or out of range.
    """
    directory = Path(directory)
    config = read_config(directory, PeftConfig)
    with open_weights(directory) as weights:
        shapes = module_shapes(config, weights)
        groups = group_count(len(shapes), config.weight_tying)
        names = vector_keys(config, weights, groups)
        weights.check_finite()
        vectors = torch.stack([weights.opened.get_tensor(name) for name in names])
    sha256 = files_sha256(adapter_files(directory))
    return PeftAdapter(directory, config, shapes, sha256, vectors)
