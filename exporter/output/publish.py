"""Gives a finished directory its final name.

An earlier export that is replaced is first renamed to ``<out>.replaced-export``, and removed in the
end. Killed between, it lies there complete, and :func:`recover` gives its name back.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from exporter.io_errors import writing


def replace_directory(new: Path, out: Path, marker: str) -> None:
    """Give ``new`` the name ``out``, and remove what had it; call it with the lock held.

    What had it is known by the file ``marker``, which every export has. OutputWriteError where it
    cannot be renamed; ``out`` is what it was then.
    """
    aside = _aside(out)
    with writing(out):
        if out.exists():
            out.replace(aside)
        try:
            new.replace(out)
        except OSError:
            if aside.exists():
                aside.replace(out)
            raise
        sync(out.parent)
    with suppress(OSError):
        _remove(aside, marker)


def recover(out: Path, marker: str) -> None:
    """Tidy up after a :func:`replace_directory` that was killed; call it with the lock held."""
    aside = _aside(out)
    with writing(out):
        if not (aside / marker).is_file():
            return
        if out.exists():
            _remove(aside, marker)
        else:
            aside.replace(out)


def _remove(aside: Path, marker: str) -> None:
    """Remove a directory, the file by which it is known last."""
    for child in aside.iterdir() if aside.exists() else ():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != marker:
            child.unlink()
    shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file, or a directory's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _aside(out: Path) -> Path:
    return out.with_name(f"{out.name}.replaced-export")
