"""Test data as untrusted files: a flat zip or folder read into memory, never unpacked to disk.

The one folder that a zip was packed with is no part of the names. What systems leave behind
(``__MACOSX``, hidden files such as ``._1.in``) is read under its name and is no test data.

What is refused: paths that leave the archive, links, folders and archives inside, encrypted or
doubled entries, more entries or bytes than :class:`DataLimits` allows. Of a zip, the size of its
table of contents is looked up before the table is read (100 000 entries cost nothing); what an
entry declares is checked before it is unpacked, and no more than that is unpacked.
"""

import os
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from evaluator.errors import ArchiveError

MAX_ENTRIES = 20_000  # of a folder of problems
_CHUNK = 1 << 20
_END_RECORD = b"PK\x05\x06"  # 22 bytes and a comment of at most 65535
_END_RECORD_REACH = 22 + 0xFFFF
_ZIP64_LOCATOR = b"PK\x06\x07"  # 20 bytes, right before the end record
_TABLE_BYTES_PER_ENTRY = 1024  # 46 and the name; generous
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound at once
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError)
_ARCHIVE_SUFFIXES = frozenset({".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"})


@dataclass(frozen=True)
class DataLimits:
    """Bounds of one problem's test data.

    Attributes:
        file_bytes: Of one file, unpacked.
        total_bytes: Of all files, unpacked.
        ratio: Bytes unpacked for each byte of the zip, beyond ``free_bytes``.
        free_bytes: Bytes that may be unpacked whatever the ratio; real data can be repetitive.
    """

    entries: int = 2000
    file_bytes: int = 256 << 20
    total_bytes: int = 1 << 30
    ratio: int = 200
    free_bytes: int = 64 << 20


def read_data_files(path: Path, limits: DataLimits | None = None) -> dict[str, bytes]:
    """Read a zip or a folder of test data: file name -> content, in sorted order.

    Raises:
        ArchiveError: If the path is missing, broken, or trips one of the bounds.
    """
    limits = limits or DataLimits()
    try:
        if path.is_dir():
            files = _read_folder(path, limits)
        elif path.is_file():
            files = _read_zip(path, limits)
        else:
            raise ArchiveError(f"{path}: no such file or folder of test data")
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read ({error})") from error
    return dict(sorted(files.items()))


def list_folder(folder: Path) -> list[Path]:
    """List a folder in order; an ArchiveError if it has more than 20 000 entries."""
    try:
        found = sorted(islice(folder.iterdir(), MAX_ENTRIES + 1))
    except OSError as error:
        raise ArchiveError(f"{folder}: cannot be read ({error})") from error
    if len(found) > MAX_ENTRIES:
        raise ArchiveError(f"{folder}: more than {MAX_ENTRIES} entries")
    return found


def _read_folder(path: Path, limits: DataLimits) -> dict[str, bytes]:
    """Read a flat folder."""
    files: dict[str, bytes] = {}
    bounds = _Bounds(path, limits)
    with os.scandir(path) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(status.st_mode)
            bounds.add(entry.name, status.st_mode, 0 if is_folder else status.st_size)
            if is_folder and not is_left_behind(entry.name):
                raise ArchiveError(f"{path}: {entry.name!r} is a folder; test data must be flat")
            files[entry.name] = b"" if is_folder else Path(entry.path).read_bytes()
    return files


def _read_zip(path: Path, limits: DataLimits) -> dict[str, bytes]:
    """Read a flat zip without unpacking it to disk."""
    _check_table_of_contents(path, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_entries(path, archive, limits)
    except _UNREADABLE as error:
        raise ArchiveError(f"{path}: not a readable zip archive ({error})") from error


def _check_table_of_contents(path: Path, limits: DataLimits) -> None:
    """Bound the table of contents by what the zip's end record says, before it is read.

    The end record (APPNOTE 4.3.16) has the table's size in bytes at offset 12; ``zipfile`` reads
    exactly so many. Zip64 archives keep it elsewhere, and no test data needs them.
    """
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _END_RECORD_REACH - 20))
        tail = stream.read()
    start = tail.rfind(_END_RECORD)
    if start < 0 or len(tail) - start < 22:
        raise ArchiveError(f"{path}: not a readable zip archive (no end record)")
    if tail[max(0, start - 20) : start].startswith(_ZIP64_LOCATOR):
        raise ArchiveError(f"{path}: a zip64 archive; more than 65535 files or 4 GiB are refused")
    (size,) = struct.unpack_from("<I", tail, start + 12)
    if size > limits.entries * _TABLE_BYTES_PER_ENTRY:
        much = f"its table of contents has {size} bytes"
        raise ArchiveError(f"{path}: {much}, far beyond {limits.entries} files")


def _read_entries(path: Path, archive: zipfile.ZipFile, limits: DataLimits) -> dict[str, bytes]:
    """Check all entries by their headers, then read them."""
    bounds = _Bounds(path, limits)
    for info in archive.infolist():
        _check_entry(path, info)
        bounds.add(info.filename, info.external_attr >> 16, info.file_size)
        if archive.getinfo(info.filename) is not info:  # the last one of a name
            raise ArchiveError(f"{path}: {info.filename!r} stands twice")
    packed = path.stat().st_size  # of the file itself: entries may share their packed bytes
    if bounds.total > max(limits.free_bytes, limits.ratio * packed):
        more = f"more than {limits.ratio} times as many"
        raise ArchiveError(f"{path}: {packed} bytes unpack to {bounds.total}, {more}")
    entries = [info for info in archive.infolist() if not info.is_dir()]
    top = _common_folder([info.filename for info in entries])
    files = {}
    for info in entries:
        name = info.filename.removeprefix(top)
        if "/" in name and not is_left_behind(name):
            raise ArchiveError(f"{path}: entry {name!r} lies in a folder; test data must be flat")
        with archive.open(info) as stream:
            # in pieces: zipfile looks for the declared end only between them
            files[name] = b"".join(iter(partial(stream.read, _CHUNK), b""))
    return files


def is_left_behind(name: str) -> bool:
    """Whether a file is what a system leaves beside those that are meant.

    Example:
        >>> [is_left_behind(name) for name in ("._1.in", "__MACOSX/P1/._1.in", ".DS_Store", "1.in")]
        [True, True, True, False]
    """
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _common_folder(names: list[str]) -> str:
    """``data/`` where all test data lies in one folder of that name, else nothing."""
    tops = {name.partition("/")[:2] for name in names if not is_left_behind(name)}
    return "".join(tops.pop()) if len(tops) == 1 and "/" in next(iter(tops)) else ""


def _check_entry(path: Path, info: zipfile.ZipInfo) -> None:
    """Refuse what no zip of test data has: names that leave it, encryption, odd compression."""
    name = info.orig_filename  # filename is cut at a NUL
    pure = PurePosixPath(name)
    if "\\" in name or "\0" in name or ":" in name or pure.is_absolute() or ".." in pure.parts:
        raise ArchiveError(f"{path}: entry {name!r} would escape the archive")
    if info.flag_bits & 0x1:
        raise ArchiveError(f"{path}: {info.filename!r} is encrypted")
    if info.compress_type not in _METHODS:
        method = f"compression method {info.compress_type}"
        raise ArchiveError(f"{path}: {info.filename!r} has {method}; expected stored or deflated")


class _Bounds:
    """What of a zip or folder has been seen, held against what is allowed."""

    def __init__(self, path: Path, limits: DataLimits) -> None:
        self.path, self.limits = path, limits
        self.count = self.total = 0

    def add(self, name: str, mode: int, size: int) -> None:
        """Refuse links, special files, archives inside, and more than is allowed.

        A mode of 0 is that of a zip that was made without Unix modes.
        """
        kind, limits = stat.S_IFMT(mode), self.limits
        self.count += 1
        self.total += size
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
            raise ArchiveError(f"{self.path}: {name!r} is {what}; only plain files are read")
        if PurePosixPath(name).suffix.lower() in _ARCHIVE_SUFFIXES and not is_left_behind(name):
            raise ArchiveError(f"{self.path}: {name!r} is an archive inside; unpack it first")
        if self.count > limits.entries:
            raise ArchiveError(f"{self.path}: more than {limits.entries} files")
        if size > limits.file_bytes:
            allowed = f"allowed are {limits.file_bytes}"
            raise ArchiveError(f"{self.path}: {name!r} has {size} bytes, {allowed}")
        if self.total > limits.total_bytes:
            raise ArchiveError(f"{self.path}: more than {limits.total_bytes} bytes in all")
