"""The form of a weight file: safetensors, unless a format has another."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from exporter.safetensors.writer import ShardWriter, TensorSpec, file_bytes


class FileForm:
    """How tensors lie in a file; this one is safetensors.

    Attributes:
        suffix: Of the file's name.
        single: Whether all weights go into one file.
    """

    suffix: ClassVar[str] = ".safetensors"
    single: ClassVar[bool] = False

    def stored(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """What the file will hold where these tensors, named as in a checkpoint, are given."""
        return tuple(specs)

    def max_bytes(self, stored: Sequence[TensorSpec]) -> int:
        """Most bytes that a file of these tensors can take."""
        return file_bytes(stored)

    def writer(self, path: Path, stored: Sequence[TensorSpec]) -> ShardWriter:
        """Write such a file."""
        return ShardWriter(path, stored)
