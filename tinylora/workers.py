"""Several modules at a time, in bounded memory, with the same bits for every number of threads.

A threaded SVD rounds differently with each number of threads, and a bf16 factor on the edge then
flips. So torch works on one thread for each module, and the other threads on other modules.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import RLock
from typing import TypeVar

import torch

_MOST_WORKERS = 8
_WORKSPACE_BYTES = 1_100_000_000
# Of an SVD: the weight, LAPACK's copy of it, the singular vectors, and its workspace, all fp32.
_BYTES_PER_ELEMENT = 24

_ONE_AT_A_TIME = RLock()
_outside: list[int] = []  # torch's threads before each of the nested calls

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers_for(threads: int, largest: int) -> int:
    """How many modules may be in work at once, the largest of which has so many elements.

    >>> workers_for(16, 2048 * 11008), workers_for(16, 896 * 4864), workers_for(1, 10)
    (2, 8, 1)
    """
    by_memory = _WORKSPACE_BYTES // (_BYTES_PER_ELEMENT * max(largest, 1))
    return max(1, min(threads, _MOST_WORKERS, by_memory))


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[Result, None, None]:
    """``map(work, items)`` on threads that never wait: results pile up, so keep them small."""
    if workers == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def single_threaded() -> Iterator[int]:
    """Let torch use one thread in here; yields how many it may use outside of all of these.

    The number is the process's, so a second thread waits: else the first to end changes its bits.
    """
    with _ONE_AT_A_TIME:
        _outside.append(torch.get_num_threads())
        torch.set_num_threads(1)
        try:
            yield _outside[0]
        finally:
            torch.set_num_threads(_outside.pop())
