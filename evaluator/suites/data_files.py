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
from pathlib import Path, PurePosixPath

from evaluator.errors import ArchiveError

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
        entries: Number of files.
        file_bytes: Bytes of one file, unpacked.
        total_bytes: Bytes of all files, unpacked.
        ratio: Bytes unpacked for each byte of the zip, beyond ``free_bytes``.
        free_bytes: Bytes that may be unpacked whatever the ratio; real data can be repetitive.
    """

    entries: int = 2000
    file_bytes: int = 256 << 20
    total_bytes: int = 1 << 30
    ratio: int = 200
    free_bytes: int = 64 << 20


def read_data_files(path: Path, limits: DataLimits | None = None) -> dict[str, bytes]:
    """Read a zip or a folder of test data.

    Args:
        path: A ``.zip`` file or a folder.
        limits: Bounds; None means the defaults.

    Returns:
        File name -> content, in sorted order.

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


def _read_folder(path: Path, limits: DataLimits) -> dict[str, bytes]:
    """Read a flat folder."""
    files: dict[str, bytes] = {}
    total = 0
    with os.scandir(path) as entries:
        for count, entry in enumerate(entries, start=1):
            status = entry.stat(follow_symlinks=False)
            _check_kind(path, entry.name, status.st_mode)
            if not stat.S_ISREG(status.st_mode) and is_left_behind(entry.name):
                files[entry.name] = b""
                continue
            if not stat.S_ISREG(status.st_mode):
                raise ArchiveError(f"{path}: {entry.name!r} is a folder; test data must be flat")
            _check_no_archive(path, entry.name)
            total += status.st_size
            _check_size(path, entry.name, count, status.st_size, total, limits)
            files[entry.name] = Path(entry.path).read_bytes()
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
        raise ArchiveError(
            f"{path}: its table of contents has {size} bytes, far beyond {limits.entries} files"
        )


def _read_entries(path: Path, archive: zipfile.ZipFile, limits: DataLimits) -> dict[str, bytes]:
    """Check all entries by their headers, then read them."""
    declared = 0
    names: set[str] = set()
    for count, info in enumerate(archive.infolist(), start=1):
        _check_entry(path, info)
        if info.filename in names:
            raise ArchiveError(f"{path}: {info.filename!r} stands twice")
        names.add(info.filename)
        declared += info.file_size
        _check_size(path, info.filename, count, info.file_size, declared, limits)
    packed = path.stat().st_size  # of the file itself: entries may share their packed bytes
    if declared > max(limits.free_bytes, limits.ratio * packed):
        raise ArchiveError(
            f"{path}: {packed} bytes unpack to {declared}, more than {limits.ratio} times as many"
        )
    files = [info for info in archive.infolist() if not info.is_dir()]
    top = _common_folder([info.filename for info in files])
    _check_flat(path, [info.filename.removeprefix(top) for info in files])
    return {info.filename.removeprefix(top): _read_entry(archive, info) for info in files}


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


def _check_flat(path: Path, names: list[str]) -> None:
    """Refuse folders in which tests might be overlooked."""
    for name in names:
        if "/" in name and not is_left_behind(name):
            raise ArchiveError(
                f"{path}: entry {name!r} lies in a folder; Luogu test data must be flat"
            )


def _check_entry(path: Path, info: zipfile.ZipInfo) -> None:
    """Hold one entry's header against what test data looks like."""
    _check_name(path, info.orig_filename)  # filename is cut at a NUL
    _check_kind(path, info.filename, info.external_attr >> 16)
    _check_no_archive(path, info.filename)
    if info.flag_bits & 0x1:
        raise ArchiveError(f"{path}: {info.filename!r} is encrypted")
    if info.compress_type not in _METHODS:
        raise ArchiveError(
            f"{path}: {info.filename!r} has compression method {info.compress_type}; "
            "only stored and deflated entries are read"
        )


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read one entry in pieces: ``zipfile`` looks for the declared end only between them."""
    with archive.open(info) as stream:
        return b"".join(iter(partial(stream.read, _CHUNK), b""))


def _check_name(path: Path, name: str) -> None:
    """Refuse names that are not plain file names."""
    pure = PurePosixPath(name)
    if "\\" in name or "\0" in name or ":" in name or pure.is_absolute() or ".." in pure.parts:
        raise ArchiveError(f"{path}: entry {name!r} would escape the archive")


def _check_kind(path: Path, name: str, mode: int) -> None:
    """Refuse links and special files; a mode of 0 means a zip made without Unix modes."""
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
        raise ArchiveError(f"{path}: {name!r} is {what}; only plain files are read")


def _check_no_archive(path: Path, name: str) -> None:
    """Refuse archives inside an archive or folder."""
    if PurePosixPath(name).suffix.lower() in _ARCHIVE_SUFFIXES and not is_left_behind(name):
        raise ArchiveError(f"{path}: {name!r} is an archive inside; unpack it first")


def _check_size(path: Path, name: str, count: int, size: int, total: int, lim: DataLimits) -> None:
    """Hold one more file against the bounds."""
    if count > lim.entries:
        raise ArchiveError(f"{path}: more than {lim.entries} files")
    if size > lim.file_bytes:
        raise ArchiveError(f"{path}: {name!r} has {size} bytes, allowed are {lim.file_bytes}")
    if total > lim.total_bytes:
        raise ArchiveError(f"{path}: more than {lim.total_bytes} bytes in all")
