"""Files and directories that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def written_whole(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A path to write to, which becomes the file where the block ends without an error.

    A file that is there is replaced. ``shared``: several processes may write; the last one counts.
    """
    mark = f".{uuid4().hex}" if shared else ""
    part = path.with_name(f"{path.name}{mark}.part")
    try:
        yield part
        sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with written_whole(path) as part:
        part.write_bytes(content)


def replace_directory(new: Path, out: Path, aside: Path) -> None:
    """Give ``new`` the name ``out``; what had it lies at ``aside``.

    If that fails with OSError, nothing is changed.
    """
    if out.exists():
        out.replace(aside)
    try:
        new.replace(out)
    except OSError:
        if aside.exists():
            aside.replace(out)
        raise
    sync(out.parent)


def sync(path: Path) -> None:
    """Wait until a file, or a directory's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
