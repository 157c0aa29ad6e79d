"""Anonymous files in memory: how programs, inputs and outputs reach a sandbox.

Nothing of a judgement lies on disk, for a program to find or for a killed judge to leave.
"""

import fcntl
import os
import weakref

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


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
