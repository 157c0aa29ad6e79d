"""Headers of safetensors files, as safetensors itself reads them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from exporter.errors import CheckpointError, CheckpointMissingError
from exporter.io_errors import reading
from exporter.safetensors.reader import DataFile, open_data_file

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


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as its file's header describes it; ``dtype`` is safetensors' name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return TORCH_DTYPES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return torch.Size(self.shape).numel() * self.torch_dtype.itemsize


def checked_data_file(file: Path) -> DataFile:
    """Where the tensors of a file lie, after safetensors itself has found its header in order.

    Raises:
        CheckpointError: The file is damaged, not there, or cannot be read.
    """
    with _opened(file):
        return open_data_file(file)


def read_headers(file: Path) -> list[TensorHeader]:
    """Headers of one safetensors file, ordered by name; errors as above."""
    headers = []
    with _opened(file) as opened:
        for name in sorted(opened.keys()):
            view = opened.get_slice(name)
            dtype = view.get_dtype()
            if dtype not in TORCH_DTYPES:
                raise CheckpointError(
                    f"{file}: tensor {name!r} has dtype {dtype}; expected one of "
                    f"{', '.join(TORCH_DTYPES)}"
                )
            headers.append(TensorHeader(name, dtype, tuple(view.get_shape()), file.name))
    return headers


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    if not file.is_file():
        raise CheckpointMissingError(f"{file}: no such weight file; download the base again")
    try:
        with reading(file), safe_open(file, framework="pt", device="cpu") as opened:
            yield opened
    except SafetensorError as error:
        raise CheckpointError(
            f"{file}: not a readable safetensors file ({error}); download it again"
        ) from error
