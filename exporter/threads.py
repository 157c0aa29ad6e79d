"""One thread for what must give the same bits on any number of cores.

Threaded sums round differently with each number of threads. A bf16 factor on the edge then flips,
and so does a choice between two 4-bit codes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_threaded() -> Iterator[int]:
    """Let torch use one thread in here; yields how many it may use outside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
