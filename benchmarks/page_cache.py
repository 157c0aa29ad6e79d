"""Puts memory into one state before rivals that write files take their turns.

On a virtual machine the host takes back memory that lies free, and touching it again costs more
than writing a file to it: whoever comes first after some waiting pays, and the rival does not. So
memory is filled with pages of a file without content, as it is on a machine that has been in use,
and some of it is freed in pieces too small to be taken back.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_PIECE = 1 << 19
_READ = 1 << 23
_KEEP_FREE = 300 << 20


def settle(directory: Path, free: int) -> None:
    """Fill memory with cached pages of a sparse file in a directory, and free so many bytes."""
    path = directory / "filler"
    with path.open("ab") as file:
        file.truncate(_memory("MemTotal"))
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffer = bytearray(_READ)
        while _memory("MemFree") > _KEEP_FREE and file.readinto(buffer):
            pass
        for start in range(0, file.tell(), 128 * _PIECE):
            for place in range(start, start + 128 * _PIECE, 2 * _PIECE):
                os.posix_fadvise(file.fileno(), place, _PIECE, os.POSIX_FADV_DONTNEED)
            if _memory("MemFree") >= free:
                break


def remember(files: Iterable[Path]) -> None:
    """Read files, so that they are in the page cache."""
    buffer = bytearray(_READ)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass


def forget(files: Iterable[Path]) -> None:
    """Ask the kernel to drop the pages of files, so that they are read from the disk."""
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memory(name: str) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(found) * 1024
