"""SHA-256 of files."""

import os
from collections.abc import Callable, Iterable
from hashlib import file_digest, sha256
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path], digest: Callable[[Path], str] = file_sha256) -> str:
    """Hex SHA-256 over the names and digests of files, in their order."""
    total = sha256()
    for path in paths:
        total.update(os.fsencode(f"{path.name}\0{digest(path)}\n"))
    return total.hexdigest()
