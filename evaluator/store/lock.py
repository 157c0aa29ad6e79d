"""The lock of the directory of a run, a bench or a judge: one start at a time writes it."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from evaluator.errors import RunDirectoryError

# What a killed process had just started holds its files for an instant more.
_TRIES, _WAIT_S = 20, 0.1


@dataclass(frozen=True)
class DirectoryLock:
    """A directory held by this process; see :func:`locked`."""

    directory: Path
    file: TextIO

    def hold(self, *, shared: bool) -> None:
        """Hold the directory alone, or beside the other processes of one run."""
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        for _ in range(_TRIES):
            try:
                fcntl.flock(self.file, how)
                return
            except BlockingIOError:
                time.sleep(_WAIT_S)
        raise RunDirectoryError(
            f"{self.directory}: another process is writing this run; wait for it or stop it"
        )


@contextmanager
def locked(directory: Path, *, shared: bool = False) -> Iterator[DirectoryLock]:
    """Hold a directory inside the ``with``; the lock goes with the process."""
    with (directory / ".lock").open("w") as file:
        lock = DirectoryLock(directory, file)
        lock.hold(shared=shared)
        yield lock
