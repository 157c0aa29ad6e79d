"""Texts as one batch for a causal model, and tensors that wait on the disk."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


def right_padded(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, int64 ``[texts, longest]``.

    In a causal model the padding at the end cannot change what is before it.

    Args:
        texts: Token ids of each text.
    """
    width = max(len(ids) for ids in texts)
    ids = torch.zeros((len(texts), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return ids, mask


class TensorSpool:
    """Tensors on the disk, one file each, such as the logits of a model that others wait for.

    Args:
        directory: An empty directory; the caller removes it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, name: str, tensor: Tensor) -> None:
        """Write a tensor; a full disk is a ``SafetensorError`` or ``OSError``."""
        save_file({"tensor": tensor.contiguous()}, self._file(name))

    def load(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """Read a tensor."""
        tensor: Tensor = load_file(self._file(name), str(device))["tensor"]
        return tensor

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.safetensors"
