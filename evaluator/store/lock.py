"""The lock of the directory of a run, a bench or a judge: one start at a time writes it."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evaluator.errors import RunDirectoryError

# What a killed process had just started holds its files for an instant more.
_TRIES, _WAIT_S = 20, 0.1


@contextmanager
def locked(directory: Path, shared: bool = False) -> Iterator[Callable[[bool], None]]:
    """Hold a directory inside the ``with``, alone or shared with other processes of one run.

    Gives a function that holds it in the other way. The lock goes with the process.
    """
    with (directory / ".lock").open("w") as file:

        def hold(shared: bool) -> None:
            how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
            for _ in range(_TRIES):
                try:
                    return fcntl.flock(file, how)
                except BlockingIOError:
                    time.sleep(_WAIT_S)
            raise RunDirectoryError(
                f"{directory}: another process is writing this run; wait for it or stop it"
            )

        hold(shared)
        yield hold
