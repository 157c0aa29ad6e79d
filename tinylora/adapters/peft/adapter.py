"""A PEFT TinyLoRA adapter: a directory with adapter_config.json and adapter_model.safetensors.

Its tensors are listed in ``peft_tensors``: ΔW = B · (Σᵢ vᵢ Pᵢ) · A. As A and B are in the file, no
SVD is needed. The file is untrusted input: only safetensors is read, and every size is known from
its header before anything is made.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tinylora.adapters.peft.config import CONFIG_FILE, PeftConfig, read_config
from tinylora.adapters.peft.tensors import (
    LEAVES,
    checked_shape,
    group_count,
    module_shapes,
    tensor_key,
    vector_keys,
)
from tinylora.adapters.upstream.artifact import AdapterSizes
from tinylora.errors import (
    ArtifactMissingError,
    ArtifactUnreadableError,
    ArtifactValueError,
    UnsafeArtifactError,
)

WEIGHTS_FILE = "adapter_model.safetensors"
MAX_FILE_BYTES = 1 << 34


@dataclass(frozen=True, eq=False)
class PeftAdapter:
    """A checked adapter; A, B and P stay in the file until they are asked for.

    Attributes:
        path: Its directory.
        config: What its adapter_config.json says.
        shapes: Module -> ``(out, in, r)``, in the order of the names; the base knows the order of
            the modules.
        vectors: The trained vectors, ``[groups, u]``, in the file's dtype, on the CPU.
        sha256: Hex digest over the names and digests of its two files.
    """

    path: Path
    config: PeftConfig
    shapes: Mapping[str, tuple[int, int, int]]
    vectors: Tensor
    sha256: str

    @property
    def rank(self) -> int:
        """Rank r."""
        return self.config.r

    @property
    def sizes(self) -> AdapterSizes:
        """Sizes of its tensors."""
        return AdapterSizes(self.rank, self.config.u, self.vectors.shape[0], capped=True)

    @property
    def model_id(self) -> str:
        """The base's name: a hub id, the last part of a path, or nothing."""
        name = self.config.base
        is_hub_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) is not None
        return name if is_hub_id else re.split(r"[/\\]", name.rstrip("/\\"))[-1]

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

    def read(self, module: str) -> Mapping[str, Tensor]:
        """``A``, ``B`` and, where it is stored, ``P`` of a module, in the file's dtypes.

        Raises:
            ArtifactUnreadableError: The file has gone, or was changed meanwhile.
        """
        leaves = LEAVES if self.config.save_projection else LEAVES[:2]
        file = self.path / WEIGHTS_FILE
        try:
            with safe_open(file, framework="pt", device="cpu") as opened:
                return {leaf[-1]: opened.get_tensor(tensor_key(module, leaf)) for leaf in leaves}
        except (SafetensorError, OSError) as error:
            raise ArtifactUnreadableError(f"{file}: cannot be read any more ({error})") from error


def adapter_files(directory: Path) -> tuple[Path, Path]:
    """The two files that make an adapter."""
    return directory / CONFIG_FILE, directory / WEIGHTS_FILE


def load_peft_adapter(directory: str | Path) -> PeftAdapter:
    """Read and check an adapter.

    Args:
        directory: What ``save_pretrained`` of a PEFT model made.

    Raises:
        ArtifactMissingError: One of its files is not there.
        ArtifactUnreadableError: A file is damaged or oversized.
        UnsafeArtifactError: The weights are a pickle.
        ArtifactFieldError: A field or tensor is missing, unknown, or of the wrong type or shape.
        ArtifactValueError: A value is out of range or not finite.
    """
    directory = Path(directory)
    config = read_config(directory)
    file = directory / WEIGHTS_FILE
    _check_file(directory, file)
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            headers = {
                name: tuple(checked_shape(file, name, opened.get_slice(name)))
                for name in opened.keys()  # noqa: SIM118
            }
            shapes = module_shapes(file, config, headers)
            groups = group_count(len(shapes), config.weight_tying)
            names = vector_keys(file, config, headers, groups)
            for name in headers:
                _check_finite(file, name, opened.get_tensor(name))
            vectors = torch.stack([opened.get_tensor(name) for name in names])
    except (SafetensorError, OSError) as error:
        raise ArtifactUnreadableError(
            f"{file}: not a readable safetensors file ({error}); copy it again"
        ) from error
    return PeftAdapter(directory, config, shapes, vectors, _digest(directory))


def _check_file(directory: Path, file: Path) -> None:
    pickled = directory / "adapter_model.bin"
    if not file.is_file() and pickled.is_file():
        raise UnsafeArtifactError(
            f"{pickled}: a pickle, which can run code when it is loaded, is never read; save the "
            f"adapter again as {WEIGHTS_FILE} (save_pretrained with safe_serialization=True)"
        )
    if not file.is_file():
        raise ArtifactMissingError(f"{file}: no such file; copy the whole adapter directory")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ArtifactUnreadableError(
            f"{file}: {file.stat().st_size} bytes; an adapter has at most {MAX_FILE_BYTES}. Is "
            "this a model checkpoint?"
        )


def _check_finite(file: Path, name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise ArtifactValueError(
            f"{file}: tensor {name!r} has non-finite values; the training diverged, or the file is "
            "damaged"
        )


def _digest(directory: Path) -> str:
    total = hashlib.sha256()
    for path in adapter_files(directory):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name}\0{content}\n".encode())
    return total.hexdigest()
