"""Another default dtype for a while, with nothing remembered from before or after."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from exporter.quantize import requantize
from tinylora.weights import blockwise, code_books

_CACHES = [
    kept
    for module in (blockwise, code_books, requantize)
    for kept in vars(module).values()
    if hasattr(kept, "cache_clear")
]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Run under ``torch.set_default_dtype(dtype)``; tables made before are made anew."""
    before = torch.get_default_dtype()
    try:
        for kept in _CACHES:
            kept.cache_clear()
        torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)
        for kept in _CACHES:
            kept.cache_clear()
