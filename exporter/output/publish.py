"""Gives a finished directory its final name, in one step where the system can do that.

A new name is a plain rename. Where an earlier export is to be replaced, the two directories swap
their names at once (Linux's ``renameat2`` with ``RENAME_EXCHANGE``): at every moment one complete
export has the final name. File systems without that swap (some network ones) get two renames, with
a moment between them at which the name is free; the earlier export then lies complete beside it as
``<out>.replaced-export``, and :func:`recover` gives its name back when the next export begins.
"""

import ctypes
import errno
import fcntl
import os
import shutil
from pathlib import Path

from exporter.io_errors import writing

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_NO_SWAP = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def replace_directory(new: Path, out: Path) -> None:
    """Give ``new`` the name ``out``, and remove what had it.

    Args:
        new: The finished directory, on the same file system and locked by the caller.
        out: The final name; nothing, an empty directory or an earlier export.

    Raises:
        OutputWriteError: It cannot be renamed; ``out`` is what it was.
    """
    replaced = _replaced(out)
    with writing(out):
        shutil.rmtree(replaced, ignore_errors=True)
        if not out.exists():
            new.replace(out)
        else:
            # the earlier export takes the working name for a moment: locked, so that nobody
            # takes it for work left behind
            held = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _swap(new, out):
                    new.replace(replaced)
                else:
                    out.replace(replaced)
                    try:
                        new.replace(out)
                    except OSError:
                        replaced.replace(out)
                        raise
            finally:
                os.close(held)
        sync(out.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def recover(out: Path) -> None:
    """Tidy up after a :func:`replace_directory` that was killed; call it with the lock held.

    Raises:
        OutputWriteError: The earlier export cannot be given its name back.
    """
    replaced = _replaced(out)
    with writing(out):
        if out.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        elif replaced.is_dir():
            replaced.replace(out)


def sync(path: Path) -> None:
    """Wait until a file, or a directory's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replaced(out: Path) -> Path:
    return out.with_name(f"{out.name}.replaced-export")


def _swap(a: Path, b: Path) -> bool:
    """Swap two names; False where the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(a), os.fsencode(b)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_SWAP:
        return False
    raise OSError(number, os.strerror(number), str(b))
