"""The directory in which an export is made, and how it becomes the output.

Everything is written to ``<out>.partial-export``, which is locked. Each finished shard is recorded
in a journal, where an export that was killed finds it and goes on. Renaming the directory is the
last step: ``<out>`` is complete or it is not there. An earlier export that is replaced is first
renamed to ``<out>.replaced-export``, and gets its name back if the next step never comes.
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from exporter.errors import (
    CheckpointUnreadableError,
    DiskFullError,
    OutputBusyError,
    OutputExistsError,
    OutputWriteError,
    RequestError,
    reading,
    writing,
)
from exporter.fidelity import ModuleFidelity
from exporter.safetensors.reader import file_sha256
from tinylora.errors import FactorStoreError, ScratchError
from tinylora.files.whole_file import replace_directory, replace_file, sync

MANIFEST_FILE = "export_manifest.json"
JOURNAL_FILE = ".export-journal.json"
# A mended disk, network or permission is all that the next run needs.
_MENDED_FROM_OUTSIDE = (
    OutputWriteError,
    CheckpointUnreadableError,
    FactorStoreError,
    ScratchError,
)
_log = logging.getLogger(__name__)
_SPARE_BYTES = 1 << 20
_COPY_BYTES = 1 << 24


@dataclass(frozen=True)
class FinishedFile:
    """A shard that is complete on disk, and measures of the modules folded into it."""

    name: str
    sha256: str
    modules: tuple[ModuleFidelity, ...]


@dataclass(frozen=True)
class _Journal:
    key: str
    files: tuple[FinishedFile, ...]


class Workspace:
    """The locked working directory of one export; use :func:`open_workspace`.

    Attributes:
        finished: Records of complete files, those of an earlier run of the same export too.
    """

    def __init__(self, out: Path, path: Path, key: Callable[[], str]) -> None:
        self.out = out
        self.path = path
        self._key = key
        self.finished = self._resume()

    def complete(self, name: str, modules: Sequence[ModuleFidelity]) -> None:
        """Hash and record a complete file."""
        digest = file_sha256(self.path / name)
        self.finished[name] = FinishedFile(name, digest, tuple(modules))
        self._write_journal()

    def write_text(self, name: str, text: str) -> None:
        """Write a small file so that it is there whole or not at all."""
        write_whole(self.path / name, text.encode())

    def copy(self, source: Path, name: str) -> None:
        """Carry a file over byte for byte."""
        target = self.path / name
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with reading(source):
                original = source.open("rb")
            with original, target.open("wb") as copy:
                while content := _read_some(original, source):
                    copy.write(content)

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file but the journal, by its name below the directory."""
        known = {file.name: file.sha256 for file in self.finished.values()}
        names = [
            path.relative_to(self.path).as_posix()
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path.name != JOURNAL_FILE
        ]
        return {name: known.get(name) or file_sha256(self.path / name) for name in names}

    def check_room(self, wanted: int) -> None:
        """Refuse to start an export that the disk cannot hold, with a DiskFullError."""
        done = sum((self.path / name).stat().st_size for name in self.finished)
        wanted += _SPARE_BYTES - done
        with writing(self.out):
            free = shutil.disk_usage(self.path).free
        if wanted > free:
            raise DiskFullError(
                f"{self.out}: the export needs {wanted / 1e9:.2f} GB and the disk has "
                f"{free / 1e9:.2f} GB free; free some, or choose another directory or format"
            )

    def publish(self, overwrite: bool) -> None:
        """Give the directory its final name, unless something else has got it meanwhile."""
        _, aside = beside(self.out)
        check_replaceable(self.out, overwrite)
        with writing(self.out):
            for written in (*self.path.rglob("*"), self.path):
                sync(written)
            (self.path / JOURNAL_FILE).unlink(missing_ok=True)
            try:
                replace_directory(self.path, self.out, aside)
            except BaseException:
                if self.path.exists():  # the next run goes on from here
                    self._write_journal()
                raise
        try:
            _remove(aside)
        except OSError as error:
            _log.warning("%s: the replaced export stays (%s); remove it", aside, error.strerror)

    def _write_journal(self) -> None:
        journal = _Journal(self._key(), tuple(self.finished.values()))
        self.write_text(JOURNAL_FILE, json.dumps(asdict(journal)))

    def _resume(self) -> dict[str, FinishedFile]:
        """Files of an earlier run of the same export; anything else is removed."""
        finished = {
            file.name: file
            for file in _read_journal(self.path / JOURNAL_FILE, self._key)
            if (self.path / file.name).is_file()
            and file_sha256(self.path / file.name) == file.sha256
        }
        for stale in self.path.iterdir():
            if stale.name not in finished and stale.name != JOURNAL_FILE:
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        return finished


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that it is there whole or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)


@contextmanager
def open_workspace(out: Path, key: Callable[[], str], overwrite: bool) -> Iterator[Workspace]:
    """Make or resume the working directory of an export, and hold its lock in here.

    ``key`` gives the digest of everything that decides the output's bytes, late, as it may still be
    in the making; files of an earlier run are kept only under the same key. After an error that
    the next run may not have, the directory stays for it.

    Raises:
        OutputExistsError: The output, or something at the working directory, may not be replaced.
        OutputBusyError: Another export has the lock.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100  (resolve() would follow a symbolic link)
    check_replaceable(out, overwrite)
    path, _ = beside(out)
    with writing(path):
        if path.is_file():
            raise OutputExistsError(f"{path}: is a file; remove it")
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with writing(path):
            if not _takes_lock(lock, path):
                raise OutputBusyError(
                    f"{out}: another process is writing it; wait, or choose another --out"
                )
            _mark_as_ours(path)
            _recover(out)
            check_replaceable(out, overwrite)
            workspace = Workspace(out, path, key)
        try:
            yield workspace
        except _MENDED_FROM_OUTSIDE:
            raise
        except Exception:
            shutil.rmtree(path, ignore_errors=True)
            raise
    finally:
        os.close(lock)


def _takes_lock(lock: int, path: Path) -> bool:
    """Lock a directory, unless someone has it or has given it its final name meanwhile."""
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path.exists() and path.stat().st_ino == os.fstat(lock).st_ino
    return False


def _mark_as_ours(path: Path) -> None:
    """Leave a journal in a working directory, which may be emptied from then on."""
    known = [path / JOURNAL_FILE, path / MANIFEST_FILE]  # the latter alone: killed while published
    if any(path.iterdir()) and not any(file.is_file() for file in known):
        raise OutputExistsError(
            f"{path}: would be emptied, and no {JOURNAL_FILE} in it says that an export left it; "
            "move it, or choose another --out"
        )
    known[0].touch()


def check_replaceable(out: Path, overwrite: bool) -> None:
    """Refuse an output that is there, unless it is an export that may be replaced."""
    with writing(out):
        if out.is_symlink():
            raise RequestError(f"{out}: is a symbolic link; name the directory itself")
        if not out.exists():
            return
        empty = out.is_dir() and not any(out.iterdir())
        ours = (out / MANIFEST_FILE).is_file()
    if not overwrite:
        raise OutputExistsError(f"{out}: is already there; choose another --out or --overwrite it")
    if not empty and not ours:
        raise OutputExistsError(
            f"{out}: has no {MANIFEST_FILE}, so it is no earlier export and not replaced; remove "
            "it yourself or choose another --out"
        )


def _read_journal(path: Path, key: Callable[[], str]) -> Sequence[FinishedFile]:
    """Its files; none where a kill left half of it, or it is of another version or export."""
    try:
        journal = TypeAdapter(_Journal).validate_json(path.read_bytes()) if path.is_file() else None
    except ValidationError:
        return ()
    return journal.files if journal is not None and journal.key == key() else ()


def _read_some(file: BinaryIO, path: Path) -> bytes:
    with reading(path):
        return file.read(_COPY_BYTES)


def _recover(out: Path) -> None:
    """Tidy up after a replacement that was killed."""
    _, aside = beside(out)
    with writing(aside):
        if not (aside / MANIFEST_FILE).is_file():
            return
        if out.exists():
            _remove(aside)
        else:
            aside.replace(out)


def _remove(aside: Path) -> None:
    """Remove an export, the file by which it is known last."""
    for child in aside.iterdir() if aside.exists() else ():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != MANIFEST_FILE:
            child.unlink()
    shutil.rmtree(aside, ignore_errors=True)


def beside(out: Path) -> tuple[Path, Path]:
    """Where an output is made, and where the one that it replaces waits."""
    return out.with_name(f"{out.name}.partial-export"), out.with_name(f"{out.name}.replaced-export")
