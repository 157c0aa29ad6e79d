"""The form of a weight file: safetensors, unless a format has another."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from torch import Tensor

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


@dataclass(frozen=True)
class RenamedForm(FileForm):
    """safetensors with other names; ``names`` of weights hold for the parts of 4-bit ones too."""

    names: Mapping[str, str]

    def stored(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The same under the names of files."""
        return tuple(replace(spec, name=_renamed(spec.name, self.names)) for spec in specs)

    def writer(self, path: Path, stored: Sequence[TensorSpec]) -> ShardWriter:
        """Takes tensors by the model's names."""
        return _RenamingWriter(path, stored, self.names)


class _RenamingWriter(ShardWriter):
    def __init__(self, path: Path, specs: Sequence[TensorSpec], names: Mapping[str, str]) -> None:
        super().__init__(path, specs)
        self._names = names

    def write_rows(self, name: str, chunks: Iterable[Tensor], shape: tuple[int, ...]) -> None:
        super().write_rows(_renamed(name, self._names), chunks, shape)


def _renamed(name: str, names: Mapping[str, str]) -> str:
    prefix, mark, part = name.partition(".weight.")
    weight = f"{prefix}.weight" if mark else name
    return f"{names.get(weight, weight)}.{part}" if mark else names.get(weight, weight)
