"""Writes and reads GGUF files: a header by the ``gguf`` package, then tensors at fixed places."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporter.errors import CheckpointError, reading
from exporter.gguf.families import Place, gguf_package
from exporter.safetensors.reader import TORCH_DTYPES, DataFile, TensorHeader
from exporter.safetensors.writer import FileForm, ShardWriter, TensorSpec
from tinylora.files.scratch import scratch_directory

_ALIGNMENT = 32  # of tensors, the default of GGUF


@dataclass(frozen=True, eq=False)
class GgufForm(FileForm):
    """One GGUF file.

    Attributes:
        said: A ``gguf.GGUFWriter`` that was told everything about the model.
        places: Where each tensor goes, by its name in a checkpoint; others are left out.
        extra: Tensors of the file that no checkpoint has.
    """

    said: Any
    places: Mapping[str, Place]
    extra: Mapping[str, Tensor]
    suffix = ".gguf"
    single = True

    def stored(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """By their names there; vectors in float32, as llama.cpp computes with them in that."""
        found = [_stored(self.places[s.name].name, s) for s in specs if s.name in self.places]
        extra = (TensorSpec(n, "F32", tuple(t.shape)) for n, t in self.extra.items())
        return (*found, *extra)

    def max_bytes(self, stored: Sequence[TensorSpec]) -> int:
        """Size of the file."""
        return len(self.header(stored)) + sum(_padded(spec.max_bytes) for spec in stored)

    def writer(self, path: Path, stored: Sequence[TensorSpec]) -> ShardWriter:
        """Takes tensors by their names in a checkpoint."""
        return _GgufWriter(path, stored, self)

    def header(self, stored: Sequence[TensorSpec]) -> bytes:
        """Everything before the tensors."""
        gguf = gguf_package()
        writer = gguf.GGUFWriter(None, self.said.arch)
        writer.kv_data = self.said.kv_data
        for spec in stored:
            kind = gguf.GGMLQuantizationType[spec.dtype]
            writer.add_tensor_info(spec.name, spec.shape, None, spec.max_bytes, raw_dtype=kind)
        with scratch_directory("gguf") as scratch:
            file = scratch / "header"
            writer.write_header_to_file(file)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            writer.close()
            header = file.read_bytes()
        return header.ljust(_padded(len(header)), b"\0")


def open_gguf(path: Path) -> DataFile:
    """Headers of a file, shapes as torch has them; CheckpointError if it cannot be read."""
    try:
        with reading(path):
            found, stat = gguf_package().GGUFReader(path), path.stat()
            headers = [
                TensorHeader(
                    name=tensor.name,
                    dtype=tensor.tensor_type.name,
                    shape=tuple(int(size) for size in reversed(tensor.shape)),
                    file=path.name,
                    begin=int(tensor.data_offset),
                )
                for tensor in found.tensors
            ]
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise CheckpointError(f"{path}: not a readable GGUF file ({error})") from error
    for header in headers:
        if header.dtype not in TORCH_DTYPES:
            raise CheckpointError(
                f"{path}: tensor {header.name!r} is {header.dtype}; expected F32, BF16 or F16"
            )
    by_name = {header.name: header for header in sorted(headers, key=lambda h: h.name)}
    return DataFile(path, stat.st_size, stat.st_mtime_ns, by_name)


class _GgufWriter(ShardWriter):
    """Takes tensors by their names in a checkpoint, and writes those that have a place."""

    def __init__(self, path: Path, stored: Sequence[TensorSpec], form: GgufForm) -> None:
        self._form = form
        super().__init__(path, stored)

    def write_rows(self, name: str, chunks: Iterable[Tensor], shape: tuple[int, ...]) -> None:
        place = self._form.places.get(name)
        if place is None:
            return
        if place.change is not None or len(shape) == 1:
            whole = torch.cat([chunk.flatten() for chunk in chunks]).view(shape)
            changed = whole if place.change is None else place.change(whole)
            chunks = [changed.float() if len(shape) == 1 else changed]
        super().write_rows(place.name, chunks, shape)

    def finish(self) -> None:
        for name, tensor in self._form.extra.items():
            super().write_rows(name, [tensor], tuple(tensor.shape))
        super().finish()

    def _lay_out(self, specs: Sequence[TensorSpec]) -> dict[str, int]:
        self._header = self._form.header(specs)
        sizes = (_padded(spec.max_bytes) for spec in specs)
        *begins, self._end = accumulate(sizes, initial=len(self._header))
        return {spec.name: begin for spec, begin in zip(specs, begins, strict=True)}

    def _write_header(self) -> int:
        self._put(memoryview(self._header), 0)
        return self._end


def _stored(name: str, spec: TensorSpec) -> TensorSpec:
    assert spec.shape is not None, "only quantization states have no shape"
    return TensorSpec(name, "F32" if len(spec.shape) == 1 else spec.dtype, spec.shape)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
