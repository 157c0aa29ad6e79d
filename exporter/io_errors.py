"""Turns the operating system's errors into the project's, with the file and what to do about it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import (
    CheckpointMissingError,
    CheckpointUnreadableError,
    DiskFullError,
    OutputWriteError,
)
from tinylora.errors import TinyLoRAError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a file of the base, or a file just written, in here.

    Raises:
        CheckpointMissingError: It is not there.
        CheckpointUnreadableError: It is there and cannot be read.
    """
    try:
        yield
    except TinyLoRAError:  # some of them are OSErrors too
        raise
    except FileNotFoundError as error:
        raise CheckpointMissingError(
            f"{path}: no such file; is the checkpoint complete?"
        ) from error
    except OSError as error:
        raise CheckpointUnreadableError(
            f"{path}: cannot be read ({error.strerror or error}); see to its permissions, or to "
            "the disk or network that it is on, and run the same command again, finished shards "
            "are kept"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write a file of the output in here.

    Raises:
        DiskFullError: There is no room.
        OutputWriteError: It cannot be written for another reason.
    """
    try:
        yield
    except TinyLoRAError:
        raise
    except OSError as error:
        raise write_error(error, path) from error


def write_error(error: OSError, path: Path) -> OutputWriteError:
    """The error to raise for a failed write."""
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return DiskFullError(
            f"{path}: no room left while writing ({reason}); free some and run the same command "
            "again, finished shards are kept"
        )
    return OutputWriteError(
        f"{path}: cannot be written ({reason}); choose an --out that this user may write to, or "
        "see to the disk or network that it is on, and run the command again"
    )
