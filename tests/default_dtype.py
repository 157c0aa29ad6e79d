"""Another default dtype for a while, with nothing remembered from before or after."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def forget_tables() -> None:
    """Empty the caches of the packages."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("tinylora.", "exporter.")):
            for kept in vars(module).values():
                if hasattr(kept, "cache_clear"):
                    kept.cache_clear()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Run under ``torch.set_default_dtype(dtype)``; tables made before are made anew."""
    before = torch.get_default_dtype()
    forget_tables()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        forget_tables()
