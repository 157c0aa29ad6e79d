
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_LOCK = Lock()


@contextmanager
def making_a_model() -> Iterator[None]:
    """To be held around every ``from_config`` and ``from_pretrained`` of a model.

    transformers meanwhile exchanges what all threads share: torch's default dtype, and methods of
    its classes. The default is float32 in here: bitsandbytes makes its code books in it.
    """
    with _LOCK:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
