"""The form of a weight file: safetensors, unless a format has another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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

    def renamed(self, name: str) -> str:
        """The name in the file of a tensor, named as in a checkpoint."""
        return name

    def stored(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """What the file will hold where these tensors, named as in a checkpoint, are given."""
        return tuple(replace(spec, name=self.renamed(spec.name)) for spec in specs)

    def max_bytes(self, stored: Sequence[TensorSpec]) -> int:
        """Most bytes that a file of these tensors can take."""
        return file_bytes(stored)

    def writer(self, path: Path, stored: Sequence[TensorSpec]) -> ShardWriter:
        """Write such a file, of tensors named as in a checkpoint."""
        return ShardWriter(path, stored, self.renamed)


@dataclass(frozen=True)
class RenamedForm(FileForm):
    """safetensors with other names; ``names`` of weights hold for the parts of 4-bit ones too."""

    names: Mapping[str, str]

    def renamed(self, name: str) -> str:
        """The name that files of the family have."""
        prefix, mark, part = name.partition(".weight.")
        weight = f"{prefix}.weight" if mark else name
        return self.names.get(weight, weight) + (f".{part}" if mark else "")
