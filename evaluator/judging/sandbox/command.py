"""What a sandbox is asked to run, under which limits, and what it reports.

Nothing of a judgement lies on disk, for a program to find or for a killed judge to leave: programs,
inputs and outputs are anonymous files in memory.
"""

import fcntl
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
Reason = Literal["exit", "cpu", "wall", "memory"]


class MemoryFile:
    """An anonymous file; it goes away with the last reference to it."""

    def __init__(self, name: str = "file") -> None:
        made = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:  # 0 to 2 are free in a process without standard streams, and a child's own there
            self.fd = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, 3)
        finally:
            os.close(made)
        self._close = weakref.finalize(self, os.close, self.fd)

    @classmethod
    def of(cls, data: bytes, name: str = "file") -> "MemoryFile":
        """Make a sealed file: nobody who gets it can change it any more."""
        file = cls(name)
        view = memoryview(data)
        while view:
            view = view[os.write(file.fd, view) :]
        fcntl.fcntl(file.fd, fcntl.F_ADD_SEALS, _SEALS)
        return file

    def __len__(self) -> int:
        return os.fstat(self.fd).st_size

    def read(self, limit: int | None = None) -> bytes:
        """Read the content from the start, at most ``limit`` bytes of it."""
        with open(self.reopen(), "rb") as stream:  # noqa: PTH123 - a descriptor has no path
            return stream.read(-1 if limit is None else limit)

    def reopen(self) -> int:
        """Open it once more, read-only and with an offset of its own; the caller closes it."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Free the memory now."""
        self._close()


@dataclass(frozen=True)
class Limits:
    """What one command may use.

    Attributes:
        cpu_ms: All threads together.
        wall_ms: Not counting time that the first process spent waiting for a busy processor.
        memory_kib: Resident; None sets no such limit.
        address_space_bytes: Only a backstop where ``memory_kib`` is given.
        file_bytes: Size of any file written, standard output and error included.
        box_bytes: Size of the private folder.
        processes: With threads; 1 forbids new ones.
        contest: Whether there is what a program of a contest may look for and a compiler need not
            see: ``/dev/zero`` and the like beside ``/dev/null``, the streams by name
            (``/dev/stdin``, ``/dev/fd``), a ``/tmp`` for what ``tmpfile()`` makes.
    """

    cpu_ms: int
    wall_ms: int
    memory_kib: int | None
    address_space_bytes: int
    stack_bytes: int
    file_bytes: int
    box_bytes: int = 32 << 20
    processes: int = 1
    contest: bool = True


@dataclass(frozen=True)
class RunReport:
    """How a command ended and what it used.

    Attributes:
        exit_code: Or None where a signal ended it.
        reason: ``exit`` where it ended by itself, else the limit for which it was killed.
        cpu_ms: User and system.
        memory_kib: Peak resident KiB of the command alone.
        stdout: At most ``file_bytes`` of it.
        stderr: The first 64 KiB of it.
        output_full: Whether standard output or error ran into ``file_bytes``.
    """

    exit_code: int | None
    signal: int | None
    reason: Reason
    cpu_ms: float
    wall_ms: float
    memory_kib: int
    stdout: bytes
    stderr: bytes
    output_full: bool


@dataclass(frozen=True)
class Command:
    """What to run: an executable, or what the first argument names; files for its folder."""

    argv: tuple[str, ...]
    program: MemoryFile | None = None
    stdin: MemoryFile | None = None
    files: Mapping[str, MemoryFile] = field(default_factory=dict)
