"""A tensor as bytes."""

import torch
from torch import Tensor


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Bytes of a tensor in row-major order; those of a contiguous one on the CPU are its own."""
    array = tensor.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy()
    return memoryview(array)  # type: ignore[arg-type]  # an ndarray is a buffer
