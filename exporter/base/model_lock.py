"""transformers makes one model at a time, whatever threads ask.

While it makes one it exchanges things that all threads share: torch's default dtype, and methods of
its own classes. Two at once would be made in each other's dtype, and leave it behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_LOCK = Lock()


@contextmanager
def making_a_model() -> Iterator[None]:
    """To be held around every ``from_config`` and ``from_pretrained`` of a model.

    torch's default dtype is float32 in here, as bitsandbytes expects: it makes its code books in
    whatever the default is.
    """
    with _LOCK:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
