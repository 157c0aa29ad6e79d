"""Reads tensors of a safetensors file with plain reads at known places.

Not through a memory map: when a mapped file is cut short, the kernel ends the process (SIGBUS).
(safetensors 0.8 can read without a map too, but reads a whole tensor for each slice of it.)
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exporter.errors import CheckpointUnreadableError
from exporter.io_errors import reading
from tinylora.files import digests

# Of what is read to be hashed or compared: it stays in a core's cache, and is not smaller, as after
# each piece a thread waits its turn.
PIECE_BYTES = 1 << 20
# Of memory and of places in files: between unlike ones the kernel copies at half the speed.
ALIGNMENT = 64


class Scratch(threading.local):
    """Memory that each thread reads into again and again.

    Fresh memory for every weight costs more than reading it: the kernel clears each page, and takes
    what was given back for the pages of the file being written.
    """

    def __init__(self) -> None:
        self._buffer = np.empty(0, dtype=np.uint8)

    def room(self, size: int) -> npt.NDArray[np.uint8]:
        """The thread's bytes; what was read into them before is gone."""
        if self._buffer.size < size:
            # numpy asks the kernel for huge pages, torch does not
            buffer = np.empty(size + ALIGNMENT, dtype=np.uint8)
            self._buffer = buffer[-buffer.ctypes.data % ALIGNMENT :]
        return self._buffer[:size]


@dataclass(frozen=True)
class DataFile:
    """Where the tensors of one file lie: name -> first byte and end of its data.

    A file that changes while it is read is noticed by its size and time of change.
    """

    path: Path
    size: int
    modified_ns: int
    places: Mapping[str, tuple[int, int]]

    def read(
        self,
        name: str,
        dtype: torch.dtype,
        shape: tuple[int, ...],
        scratch: Scratch | None = None,
    ) -> Tensor:
        """One whole tensor, on the CPU, in memory of its own or in that of ``scratch``.

        Raises:
            CheckpointUnreadableError: The file cannot be read, or is not what it was.
        """
        with self._opened() as file:
            found = self._bytes(file, *self.places[name], scratch or Scratch())
        return found.view(dtype).view(shape)

    def chunks(self, name: str, dtype: torch.dtype, elements: int) -> Iterator[Tensor]:
        """One tensor, flat, in pieces of at most ``elements``, each gone when the next is taken."""
        begin, end = self.places[name]
        step, scratch = elements * dtype.itemsize, Scratch()
        with self._opened() as file:  # kept open, as the kernel reads ahead for a descriptor
            for start in range(begin, end, step):
                yield self._bytes(file, start, min(start + step, end), scratch).view(dtype)

    def sha256(self) -> str:
        """Hex SHA-256 of the whole file; errors as for :meth:`read`."""
        digest = file_sha256(self.path)
        with self._opened():
            return digest

    def _bytes(self, descriptor: int, begin: int, end: int, scratch: Scratch) -> Tensor:
        buffer = scratch.room(end - begin)
        room = memoryview(buffer)  # type: ignore[arg-type]  # an ndarray is a buffer
        self._fill(descriptor, room, end)
        self._check_unchanged(os.fstat(descriptor))  # as it was before, so while it was read
        return torch.from_numpy(buffer)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The descriptor of the file, which is still the one that it was."""
        with reading(self.path), self.path.open("rb", buffering=0) as file:
            self._check_unchanged(os.fstat(file.fileno()))
            yield file.fileno()

    def _fill(self, descriptor: int, room: memoryview, end: int) -> None:
        """Read what lies before the byte ``end``."""
        while room:
            with reading(self.path):
                count = os.preadv(descriptor, [room], end - len(room))
            if count == 0:
                self._check_unchanged(os.fstat(descriptor))  # says what size it has now
                raise self._changed("ends early")  # and this, should it have grown back
            room = room[count:]

    def _check_unchanged(self, now: os.stat_result) -> None:
        if now.st_size != self.size:
            raise self._changed(f"has {now.st_size} bytes, had {self.size}")
        if now.st_mtime_ns != self.modified_ns:
            raise self._changed("was written to")

    def _changed(self, what: str) -> CheckpointUnreadableError:
        return CheckpointUnreadableError(
            f"{self.path}: changed while it was being read: it {what}; let nothing write to it, "
            "restore it if it is damaged, and run the same command again"
        )


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content.

    Raises:
        CheckpointUnreadableError: It cannot be read.
    """
    with reading(path):
        return digests.file_sha256(path)


def open_data_file(path: Path) -> DataFile:
    """Read where the tensors of a file lie whose header safetensors itself has checked.

    Raises:
        CheckpointUnreadableError: It cannot be read.
    """
    with reading(path), path.open("rb") as file:
        stat = os.fstat(file.fileno())
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    start = 8 + length
    places = {
        name: (start + entry["data_offsets"][0], start + entry["data_offsets"][1])
        for name, entry in header.items()
        if name != "__metadata__"
    }
    return DataFile(path, stat.st_size, stat.st_mtime_ns, places)
