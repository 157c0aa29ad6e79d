"""Directories for what is needed meanwhile; those of killed processes go at the next start."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinylora.errors import ScratchError

_PREFIX, _SUFFIX = "tinylora-", ".locked"  # the suffix says that its owner holds a lock


@contextmanager
def scratch_directory(purpose: str) -> Iterator[Path]:
    """A directory in ``TMPDIR``, removed at the end; first those go whose owners were killed.

    Raises:
        ScratchError: It cannot be made.
    """
    try:
        for parent in {tempfile.gettempdir(), "/tmp"}:  # the sandbox's supervisor knows the latter
            _remove_abandoned(Path(parent))
        path, lock = _locked_directory(f"{_PREFIX}{purpose}-")
    except OSError as error:
        raise ScratchError(
            f"a temporary directory cannot be made ({error}); set TMPDIR to a directory with room "
            "that can be written"
        ) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _locked_directory(prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, suffix=_SUFFIX))
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # someone who tidies up was faster than we
            continue
        with suppress(OSError):  # a file system without locks: then nobody gets one to remove it
            fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():  # else they were faster than the lock
            return path, lock
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    """Remove directories of ours that no process holds."""
    for path in parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # another's, held, or gone by now
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.geteuid() in (0, os.fstat(lock).st_uid):  # root judges as another user
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
