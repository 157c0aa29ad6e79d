"""The lock of the directory of a run, a bench or a judge: one start at a time writes it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from evaluator.errors import RunDirectoryError


@dataclass(frozen=True)
class DirectoryLock:
    """A run's directory held by this process; see :func:`locked`."""

    directory: Path
    file: TextIO

    def share(self) -> None:
        """Let the other processes of this run hold the directory too.

        Raises:
            RunDirectoryError: Another run was faster.
        """
        self._take(fcntl.LOCK_SH)

    def _take(self, kind: int) -> None:
        try:
            fcntl.flock(self.file, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunDirectoryError(
                f"{self.directory}: another process is writing this run; wait for it or stop it"
            ) from error


@contextmanager
def locked(directory: Path, *, shared: bool = False) -> Iterator[DirectoryLock]:
    """Hold a run's directory for this process; the lock goes with the process.

    Args:
        directory: Of the run.
        shared: Hold it beside the other processes of this run, whose first one holds it.

    Raises:
        RunDirectoryError: Another run holds it.
    """
    with (directory / ".lock").open("w") as file:
        lock = DirectoryLock(directory, file)
        lock._take(fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield lock
