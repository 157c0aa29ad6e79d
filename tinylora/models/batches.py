"""Texts as one batch for a causal model, and tensors that wait on the disk."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tinylora.errors import ScratchError


def padded(
    rows: Sequence[Sequence[int]], pad: int = 0, *, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, int64 ``[rows, longest]``, filled up on one side with ``pad``.

    In a causal model padding on the right cannot change what is before it.
    """
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, tokens in enumerate(rows):
        start = longest - len(tokens) if left else 0
        ids[index, start : start + len(tokens)] = torch.tensor(tokens)
        mask[index, start : start + len(tokens)] = 1
    return ids, mask


class TensorSpool:
    """Tensors on the disk, one file each, in an empty directory that the caller removes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, name: str, tensor: Tensor) -> None:
        """Write a tensor; a ScratchError where there is no room."""
        try:
            save_file({"tensor": tensor.contiguous()}, self._file(name))
        except (SafetensorError, OSError) as error:
            raise ScratchError(
                f"{self.directory}: an intermediate result cannot be kept ({error}); make room "
                "there (TMPDIR moves temporary directories), and run the same command again"
            ) from error

    def load(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """Read a tensor."""
        tensor: Tensor = load_file(self._file(name), str(device))["tensor"]
        return tensor

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.safetensors"
