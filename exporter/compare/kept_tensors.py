"""Tensors that wait on disk, in a temporary directory, until they are compared or summed up."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from exporter.errors import OutputWriteError


def keep_tensor(tensor: Tensor, file: Path) -> None:
    """Write a tensor to a file of its own.

    Raises:
        OutputWriteError: The temporary directory is full, or cannot be written.
    """
    try:
        save_file({"tensor": tensor.contiguous()}, file)
    except (SafetensorError, OSError) as error:
        raise OutputWriteError(
            f"{file}: an intermediate result cannot be kept ({error}); make room there, or set "
            "TMPDIR to a directory with more, and run the same command again, finished shards are "
            "kept"
        ) from error


def kept_tensor(file: Path) -> Tensor:
    """Read a tensor that :func:`keep_tensor` wrote."""
    tensor: Tensor = load_file(file)["tensor"]
    return tensor
