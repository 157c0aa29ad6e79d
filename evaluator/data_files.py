"""Test data as untrusted files: a flat zip or folder read into memory, never unpacked to disk.

What is refused: paths that leave the archive, links, nested folders, encrypted or doubled
entries, more entries or bytes than :class:`DataLimits` allows (decompression bombs: what an entry
declares is checked first, what it yields is counted while reading).
"""

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from evaluator.errors import ArchiveError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class DataLimits:
    """Bounds of one problem's test data.

    Attributes:
        entries: Number of files.
        file_bytes: Bytes of one file, unpacked.
        total_bytes: Bytes of all files, unpacked.
    """

    entries: int = 2000
    file_bytes: int = 256 << 20
    total_bytes: int = 1 << 30


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
    if path.is_dir():
        files = _read_folder(path, limits)
    elif path.is_file():
        files = _read_zip(path, limits)
    else:
        raise ArchiveError(f"{path}: no such file or folder of test data")
    return dict(sorted(files.items()))


def _read_folder(path: Path, limits: DataLimits) -> dict[str, bytes]:
    """Read a flat folder."""
    files: dict[str, bytes] = {}
    total = 0
    for count, entry in enumerate(sorted(path.iterdir()), start=1):
        mode = entry.lstat().st_mode
        _check_kind(path, entry.name, mode)
        if not stat.S_ISREG(mode):
            raise ArchiveError(f"{path}: {entry.name!r} is a folder; test data must be flat")
        total += entry.lstat().st_size
        _check_size(path, entry.name, count, entry.lstat().st_size, total, limits)
        files[entry.name] = entry.read_bytes()
    return files


def _read_zip(path: Path, limits: DataLimits) -> dict[str, bytes]:
    """Read a flat zip without unpacking it to disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_entries(path, archive, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ArchiveError(f"{path}: not a readable zip archive ({error})") from error


def _read_entries(path: Path, archive: zipfile.ZipFile, limits: DataLimits) -> dict[str, bytes]:
    """Check all entries by their headers, then read them."""
    entries = [info for info in archive.infolist() if not info.is_dir()]
    declared = 0
    for count, info in enumerate(entries, start=1):
        _check_name(path, info.filename)
        _check_kind(path, info.filename, info.external_attr >> 16)
        if info.flag_bits & 0x1:
            raise ArchiveError(f"{path}: {info.filename!r} is encrypted")
        declared += info.file_size
        _check_size(path, info.filename, count, info.file_size, declared, limits)
    files: dict[str, bytes] = {}
    for info in entries:
        if info.filename in files:
            raise ArchiveError(f"{path}: {info.filename!r} stands twice")
        files[info.filename] = _read_entry(path, archive, info)
    return files


def _read_entry(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read one entry, never more than its header declared."""
    content = bytearray()
    with archive.open(info) as stream:
        while chunk := stream.read(_CHUNK):
            content += chunk
            if len(content) > info.file_size:
                raise ArchiveError(f"{path}: {info.filename!r} holds more than it declares")
    return bytes(content)


def _check_name(path: Path, name: str) -> None:
    """Refuse names that are not plain file names."""
    pure = PurePosixPath(name)
    if "\\" in name or "\0" in name or ":" in name or pure.is_absolute() or ".." in pure.parts:
        raise ArchiveError(f"{path}: entry {name!r} would escape the archive")
    if len(pure.parts) != 1:
        raise ArchiveError(
            f"{path}: entry {name!r} lies in a folder; Luogu test data must be flat "
            "(pack the files themselves, not the folder that holds them)"
        )


def _check_kind(path: Path, name: str, mode: int) -> None:
    """Refuse links and special files; a mode of 0 means a zip made without Unix modes."""
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
        raise ArchiveError(f"{path}: {name!r} is {what}; only plain files are read")


def _check_size(path: Path, name: str, count: int, size: int, total: int, lim: DataLimits) -> None:
    """Hold one more file against the bounds."""
    if count > lim.entries:
        raise ArchiveError(f"{path}: more than {lim.entries} files")
    if size > lim.file_bytes:
        raise ArchiveError(f"{path}: {name!r} has {size} bytes, allowed are {lim.file_bytes}")
    if total > lim.total_bytes:
        raise ArchiveError(f"{path}: more than {lim.total_bytes} bytes in all")
