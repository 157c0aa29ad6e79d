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
    """Read a file of the base, or a file just written, in here."""
    try:
        yield
    except TinyLoRAError:  # some of them are OSErrors too
        raise
    except FileNotFoundError as error:
        text = f"{path}: no such file; is the checkpoint complete? download it again"
        raise CheckpointMissingError(text) from error
    except OSError as error:
        raise CheckpointUnreadableError(
            f"{path}: cannot be read ({error.strerror or error}); see to permissions, disk or "
            "network, and run the same command again, finished shards are kept"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write a file of the output in here; DiskFullError where there is no room."""
    try:
        yield
    except TinyLoRAError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_ROOM:
            raise DiskFullError(
                f"{path}: no room left ({reason}); free some and run the same command again, "
                "finished shards are kept"
            ) from error
        raise OutputWriteError(
            f"{path}: cannot be written ({reason}); choose another --out, or see to the disk or "
            "network, and run the same command again"
        ) from error
