"""Files that are there whole or not at all."""

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
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with written_whole(path) as part:
        part.write_bytes(content)
