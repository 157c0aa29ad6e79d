"""A tensor as bytes, and their digest."""

import torch
from blake3 import blake3
from torch import Tensor


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in row-major order; those of a contiguous one on the CPU are its own.

    Args:
        tensor: Any dtype, shape and device.
    """
    array = tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy()
    return memoryview(array)  # type: ignore[arg-type]  # an ndarray is a buffer


def tensor_digest(tensor: Tensor) -> bytes:
    """BLAKE3 of a tensor's bytes, 32 bytes."""
    return blake3(tensor_bytes(tensor)).digest()
