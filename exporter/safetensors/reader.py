"""Reads tensors of a safetensors file with plain reads at known places.

Not through a memory map: when a mapped file is cut short, the kernel ends the process (SIGBUS).
(safetensors 0.8 can read without a map too, but reads a whole tensor for each slice of it.)
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from exporter.errors import CheckpointError, CheckpointUnreadableError, reading
from tinylora.files import digests
from tinylora.weights.quantized_weight import tensor_bytes

# safetensors' dtype names, in the order in which its own writer lays tensors out (widest first).
TORCH_DTYPES: Mapping[str, torch.dtype] = {
    "I64": torch.int64,
    "F64": torch.float64,
    "F32": torch.float32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in TORCH_DTYPES.items()}
_PIECE = 1 << 20  # elements


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor an infinity; integers never do.

    >>> all_finite(torch.tensor([1.0, -2.0])), all_finite(torch.tensor([1.0, float("nan")]))
    (True, False)
    """
    if not tensor.dtype.is_floating_point or not tensor.numel():
        return True
    # the extremes of numbers with a NaN among them are NaN, and are found much faster than the
    # truth of each number alone
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as its file's header describes it; ``begin`` is the place of its first byte."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    begin: int

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return TORCH_DTYPES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return torch.Size(self.shape).numel() * self.torch_dtype.itemsize


@dataclass(frozen=True)
class DataFile:
    """A file's headers by name; that it changes is noticed by its size and time of change."""

    path: Path
    size: int
    modified_ns: int
    headers: Mapping[str, TensorHeader]

    def read(self, name: str) -> Tensor:
        """One whole tensor, on the CPU."""
        header = self.headers[name]
        end = header.begin + header.nbytes
        with self._opened() as file:
            found = self._bytes(file, header.begin, end)
        return found.view(header.torch_dtype).view(header.shape)

    def chunks(self, name: str) -> Iterator[Tensor]:
        """One tensor, flat, in pieces of bounded size."""
        header = self.headers[name]
        end, step = header.begin + header.nbytes, _PIECE * header.torch_dtype.itemsize
        with self._opened() as file:  # kept open, as the kernel reads ahead for a descriptor
            for start in range(header.begin, end, step):
                piece = self._bytes(file, start, min(start + step, end))
                yield piece.view(header.torch_dtype)

    def sha256(self) -> str:
        """Hex SHA-256 of the whole file; errors as for :meth:`read`."""
        digest = file_sha256(self.path)
        with self._opened():
            return digest

    def _bytes(self, descriptor: int, begin: int, end: int) -> Tensor:
        found = torch.empty(end - begin, dtype=torch.uint8)
        room = tensor_bytes(found)
        while room:
            with reading(self.path):
                count = os.preadv(descriptor, [room], end - len(room))
            self._check_unchanged(os.fstat(descriptor))  # as it was before, so while it was read
            if count == 0:  # and has grown back
                raise self._changed("ends early")
            room = room[count:]
        return found

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The descriptor of the file, which is still the one that it was."""
        with reading(self.path), self.path.open("rb", buffering=0) as file:
            self._check_unchanged(os.fstat(file.fileno()))
            yield file.fileno()

    def _check_unchanged(self, now: os.stat_result) -> None:
        if now.st_size != self.size:
            raise self._changed(f"has {now.st_size} bytes, had {self.size}")
        if now.st_mtime_ns != self.modified_ns:
            raise self._changed("was written to")

    def _changed(self, what: str) -> CheckpointUnreadableError:
        return CheckpointUnreadableError(
            f"{self.path}: changed while it was being read: it {what}; restore it if it is "
            "damaged, and run the same command again"
        )


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with reading(path):
        return digests.file_sha256(path)


def open_data_file(path: Path) -> DataFile:
    """Read the headers of a file, ordered by name, once safetensors itself has accepted them."""
    try:
        with reading(path), safe_open(path, framework="pt"), path.open("rb") as file:
            stat = os.fstat(file.fileno())
            start = 8 + int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(start - 8))
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}); download it again"
        ) from error
    entries.pop("__metadata__", None)
    headers = {}
    for name, entry in sorted(entries.items()):
        dtype, begin = entry["dtype"], start + entry["data_offsets"][0]
        if dtype not in TORCH_DTYPES:
            raise CheckpointError(
                f"{path}: tensor {name!r} has dtype {dtype}; expected one of "
                f"{', '.join(TORCH_DTYPES)}; give the base before it was quantized (fp8, MLX), or "
                "one that bitsandbytes stored in 4 bits"
            )
        headers[name] = TensorHeader(name, dtype, tuple(entry["shape"]), path.name, begin)
    return DataFile(path, stat.st_size, stat.st_mtime_ns, headers)
