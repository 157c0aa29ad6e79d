"""Anonymous files in memory: how programs, inputs and outputs reach a sandbox.

Nothing that belongs to a judgement lies on disk, so there is nothing to read for a program that
gets out of its folder, and nothing to clean up after a judge that was killed.
"""

import fcntl
import os
import weakref

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Blob:
    """An anonymous file; it goes away with the last reference to it.

    Attributes:
        fd: Its descriptor in this process.
    """

    def __init__(self, name: str = "blob") -> None:
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._close = weakref.finalize(self, os.close, self.fd)

    @classmethod
    def of(cls, data: bytes, name: str = "blob") -> "Blob":
        """Make a sealed blob: nobody who gets it can change it any more."""
        blob = cls(name)
        view = memoryview(data)
        while view:
            view = view[os.write(blob.fd, view) :]
        blob.seal()
        return blob

    def seal(self) -> None:
        """Make the content immutable."""
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)

    def __len__(self) -> int:
        return os.fstat(self.fd).st_size

    def read(self, limit: int | None = None) -> bytes:
        """Read the content from the start, at most ``limit`` bytes of it."""
        size = len(self) if limit is None else min(limit, len(self))
        parts = []
        offset = 0
        while offset < size:
            part = os.pread(self.fd, size - offset, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def reopen(self) -> int:
        """Open it once more, read-only and with an offset of its own; the caller closes it."""
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Free the memory now."""
        self._close()
