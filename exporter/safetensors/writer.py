"""Writes one safetensors file tensor by tensor, at places fixed before the first byte; checks one.

Tensors lie in safetensors' own order (widest dtype first, then by name). Only bitsandbytes'
quant_state JSON, which spells out a float, has a size that its content tells. States go to the end
of the file, and the header is given room for the longest that it could become.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from exporter.errors import WriterError, reading, writing
from exporter.safetensors.reader import (
    DTYPE_NAMES,
    TORCH_DTYPES,
    DataFile,
    all_finite,
)
from tinylora.weights.quantized_weight import STATE_PREFIX, tensor_bytes

PART_SUFFIX = ".part"
MAX_STATE_BYTES = 1024
ALIGNMENT = 64  # as of memory: between unlike places the kernel copies at half the speed
# Writes end at multiples of this in the file: the kernel makes its cache pages as large as a write,
# and to find room for large ones can take it several times as long as to fill them. Between small
# ones the interpreter's threads wait for each other.
_WRITE_BYTES = 1 << 20
# Of what is read back: it stays in a core's cache, and is not smaller, as after each piece a thread
# waits its turn.
PIECE_BYTES = 1 << 20
_WIDEST_FIRST = {name: place for place, name in enumerate(TORCH_DTYPES)}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to be written; its shape is None where only the content of a state tells."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None

    @property
    def max_bytes(self) -> int:
        """Size of the data in bytes, or the most that it may be."""
        if self.shape is None:
            return MAX_STATE_BYTES
        return torch.Size(self.shape).numel() * TORCH_DTYPES[self.dtype].itemsize


class FileForm:
    """How tensors lie in a file; this one is safetensors.

    Attributes:
        suffix: Of the file's name.
        single: Whether all weights go into one file.
    """

    suffix: ClassVar[str] = ".safetensors"
    single: ClassVar[bool] = False

    def __init__(self, names: Mapping[str, str]) -> None:
        """``names`` of weights in a checkpoint -> in the file, where they differ."""
        self._names = names

    def stored(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """What the file will hold where these tensors, named as in a checkpoint, are given."""
        return tuple(replace(spec, name=self._renamed(spec.name)) for spec in specs)

    def max_bytes(self, stored: Sequence[TensorSpec]) -> int:
        """Most bytes that a file of these tensors can take."""
        return _header_room(stored) + sum(spec.max_bytes for spec in stored)

    def writer(self, path: Path, stored: Sequence[TensorSpec]) -> "ShardWriter":
        """Write such a file, of tensors named as in a checkpoint."""
        return ShardWriter(path, stored, self._renamed)

    def _renamed(self, name: str) -> str:
        prefix, mark, part = name.partition(".weight.")  # a part goes with its 4-bit weight
        weight = f"{prefix}.weight" if mark else name
        return self._names.get(weight, weight) + (f".{part}" if mark else "")


class ShardWriter:
    """Writes ``path`` under a temporary name; :meth:`finish` gives it its own.

    Several threads may write, each other tensors. Whatever is written is finite, and is read back
    and compared. A context manager: leaving it without :meth:`finish` removes the temporary file.
    """

    def __init__(
        self,
        path: Path,
        specs: Sequence[TensorSpec],
        renamed: Callable[[str], str] = lambda name: name,
    ) -> None:
        """Make the temporary file, for all of ``specs``, whose names ``renamed`` gives."""
        self._path, self._renamed = path, renamed
        self._part = path.with_name(path.name + PART_SUFFIX)
        self._pending = {spec.name: spec for spec in specs}
        if len(self._pending) != len(specs):
            raise WriterError(f"{path.name}: the plan names a tensor twice")
        self._fixed = sorted((s for s in specs if s.shape is not None), key=_place)
        self._states: dict[str, Tensor] = {}
        self._turn = threading.Lock()
        self._begin = self._lay_out(specs)
        with writing(path):
            self._file = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file >= 0:
            self._close()
            self._part.unlink(missing_ok=True)

    def write(self, name: str, tensor: Tensor) -> None:
        """Write one tensor.

        Raises:
            WriterError: It is not as planned, not finite, or not what the file then has.
            OutputWriteError: There is no room, or it cannot be written.
        """
        if not all_finite(tensor):
            raise WriterError(
                f"{self._path.name}: {name!r} has non-finite values; this is a defect of the "
                "exporter, please report it"
            )
        self.write_rows(name, [tensor], tuple(tensor.shape))

    def write_rows(self, name: str, chunks: Iterable[Tensor], shape: tuple[int, ...]) -> None:
        """Write one tensor of ``shape`` from finite pieces of its leading dimension, in order."""
        name = self._renamed(name)
        spec = self._pending.pop(name, None)
        if spec is None:
            raise WriterError(f"{self._path.name}: {name!r} was not planned, or is written twice")
        if spec.shape not in (None, shape):
            raise WriterError(
                f"{self._path.name}: {name!r} has shape {shape}, planned {spec.shape}"
            )
        if spec.shape is None:
            self._states[name] = torch.cat([chunk.flatten() for chunk in chunks])
            return
        begin = offset = self._begin[name]
        for chunk in chunks:
            if DTYPE_NAMES[chunk.dtype] != spec.dtype:
                raise WriterError(f"{self._path.name}: {name!r} is {chunk.dtype}, planned {spec}")
            offset = self._store(name, chunk, offset)
        if offset - begin != spec.max_bytes:
            raise WriterError(
                f"{self._path.name}: {name!r} has {offset - begin} bytes, planned {spec.max_bytes}"
            )

    def finish(self) -> None:
        """Write the header and give the file its final name; it is not flushed to the disk."""
        if self._pending:
            first = sorted(self._pending)[:3]
            raise WriterError(f"{self._path.name}: planned and never written: {first}, ...")
        end = self._write_header()
        with writing(self._path):
            os.ftruncate(self._file, end)
            self._close()
            self._part.replace(self._path)

    def _lay_out(self, specs: Sequence[TensorSpec]) -> dict[str, int]:
        """Where in the file each tensor begins whose size is known, and the last one ends."""
        self._data_start = _header_room(specs)
        sizes = (spec.max_bytes for spec in self._fixed)
        *begins, self._end = accumulate(sizes, initial=self._data_start)
        return {spec.name: begin for spec, begin in zip(self._fixed, begins, strict=True)}

    def _write_header(self) -> int:
        """Write what only the end of writing tells; returns the size of the file."""
        written, offset = list(self._fixed), self._end
        for name in sorted(self._states):
            state = self._states[name]
            written.append(TensorSpec(name, "U8", (state.numel(),)))
            offset = self._store(name, state, offset)
        header = _header(written).ljust(self._data_start - 8)
        self._put(memoryview(len(header).to_bytes(8, "little") + header), 0)
        return offset

    def _store(self, name: str, part: Tensor, offset: int) -> int:
        """Write a part of a tensor and read it back; returns where it ends."""
        content = tensor_bytes(part)
        self._put(content, offset)
        self._check(name, content, offset)
        return offset + len(content)

    def _put(self, data: memoryview, offset: int) -> None:
        # the kernel lets one thread write to a file at a time, and others wait there without sleep
        with writing(self._path), self._turn:
            while data:
                room = _WRITE_BYTES - offset % _WRITE_BYTES
                written = os.pwrite(self._file, data[:room], offset)
                data, offset = data[written:], offset + written

    def _check(self, name: str, content: memoryview, offset: int) -> None:
        """Compare the file with what was written to it, before that leaves the cache."""
        with reading(self._part):
            for start in range(0, len(content), PIECE_BYTES):
                wanted = np.frombuffer(content[start : start + PIECE_BYTES], np.uint8)
                found = os.pread(self._file, len(wanted), offset + start)
                if not np.array_equal(np.frombuffer(found, np.uint8), wanted):
                    raise WriterError(
                        f"{self._part}: tensor {name!r} is not what was written; see to disk and "
                        "memory, or to another program that writes to the file"
                    )

    def _close(self) -> None:
        handle, self._file = self._file, -1
        os.close(handle)


def _place(spec: TensorSpec) -> tuple[int, str]:
    return _WIDEST_FIRST[spec.dtype], spec.name


def _header(ordered: Sequence[TensorSpec]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for spec in ordered:
        begin, end = end, end + spec.max_bytes
        entries[spec.name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape or ()),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return text.ljust(-(-len(text) // 8) * 8)


def _header_room(specs: Sequence[TensorSpec]) -> int:
    """Bytes before the data: the length field and the longest header that may be needed."""
    fixed = sorted((s for s in specs if s.shape is not None), key=_place)
    states = sorted((s for s in specs if s.shape is None), key=_place)
    longest = [replace(spec, shape=(MAX_STATE_BYTES,)) for spec in states]
    room = 8 + len(_header([*fixed, *longest]))
    return -(-room // ALIGNMENT) * ALIGNMENT if states else room


def check_header(file: DataFile, specs: Sequence[TensorSpec]) -> None:
    """Check keys, dtypes and shapes of a file that was just written, with a WriterError."""
    if problems := _header_problems(file, specs):
        raise WriterError(
            f"{file.path}: {problems[0]}; the disk or memory of this machine is at fault"
        )


def file_problems(file: DataFile, specs: Sequence[TensorSpec]) -> list[str]:
    """What is wrong with a file, in words."""
    problems = _header_problems(file, specs)
    for name in sorted({spec.name for spec in specs} & file.headers.keys()):
        is_float = file.headers[name].torch_dtype.is_floating_point
        if STATE_PREFIX in name:
            try:
                json.loads(bytes(file.read(name).tolist()))
            except (ValueError, TypeError, RecursionError):
                problems.append(f"tensor {name!r} holds no JSON")
        elif is_float and not all(map(all_finite, file.chunks(name))):
            problems.append(f"tensor {name!r} has non-finite values")
    return problems


def _header_problems(file: DataFile, specs: Sequence[TensorSpec]) -> list[str]:
    headers, planned = file.headers, {spec.name: spec for spec in specs}
    problems = [f"tensor {name!r} is missing" for name in planned.keys() - headers.keys()]
    problems += [f"tensor {name!r} was not planned" for name in headers.keys() - planned.keys()]
    for name in planned.keys() & headers.keys():
        spec, header = planned[name], headers[name]
        if header.dtype != spec.dtype or spec.shape not in (None, header.shape):
            found = f"{header.dtype} {list(header.shape)}"
            problems.append(f"tensor {name!r} is {found}, expected {spec.dtype} {spec.shape}")
    return sorted(problems)
