"""Test data as untrusted files: a flat zip or folder read into memory, never unpacked to disk.

The one folder that a zip was packed with is no part of the names; what systems leave behind
(``__MACOSX``, ``._1.in``) is no test data. Refused are paths that leave the archive, links, folders
and archives inside, encrypted or doubled entries, and more entries or bytes than allowed: the size
of a zip's table of contents is checked before the table is read, an entry's before it is unpacked.
"""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from evaluator.errors import ArchiveError

MAX_ENTRIES = 20_000  # of a folder of problems
# of one problem's test data: files, bytes of one and of all, unpacked
MAX_FILES, MAX_FILE_BYTES, MAX_TOTAL_BYTES = 2000, 256 << 20, 1 << 30
# bytes unpacked for each byte packed, and in any case: real data can be repetitive
MAX_RATIO, FREE_BYTES = 200, 64 << 20
_CHUNK = 1 << 20
_END_RECORD = b"PK\x05\x06"  # 22 bytes and a comment of at most 65535
_END_RECORD_REACH = 22 + 0xFFFF
_ZIP64_LOCATOR = b"PK\x06\x07"  # 20 bytes, right before the end record
_TABLE_BYTES_PER_ENTRY = 1024  # 46 and the name; generous
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound at once
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError)
_LEAST_COMMON = 0.8  # share of GB 2312 among the characters; what is no GBK has far less
_ARCHIVE_SUFFIXES = frozenset({".zip", ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"})


def read_data_files(path: Path) -> dict[str, bytes]:
    """Read a zip or a folder of test data: file name -> content, in sorted order."""
    try:
        if path.is_dir():
            files = _read_folder(path)
        elif path.is_file():
            _check_table_of_contents(path)
            with zipfile.ZipFile(path) as archive:
                files = _read_entries(path, archive)
        else:
            raise ArchiveError(f"{path}: no such file or folder of test data")
    except _UNREADABLE as error:
        raise ArchiveError(f"{path}: not a readable zip archive ({error})") from error
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


def _read_folder(path: Path) -> dict[str, bytes]:
    with os.scandir(path) as entries:
        found = [(e.name, e.stat(follow_symlinks=False)) for e in islice(entries, MAX_FILES + 1)]
    folders = [name for name, status in found if stat.S_ISDIR(status.st_mode)]
    _check_all(path, ((n, s.st_mode, 0 if n in folders else s.st_size) for n, s in found))
    for name in folders:
        if not is_left_behind(name):
            raise ArchiveError(f"{path}: {name!r} is a folder; test data must be flat")
    return {name: b"" if name in folders else (path / name).read_bytes() for name, _ in found}


def _check_table_of_contents(path: Path) -> None:
    """Bound the table of contents by its size in the end record (APPNOTE 4.3.16, offset 12)."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _END_RECORD_REACH - 20))
        tail = stream.read()
    start = tail.rfind(_END_RECORD)
    if start < 0 or len(tail) - start < 22:
        raise ArchiveError(f"{path}: not a readable zip archive (no end record)")
    if tail[max(0, start - 20) : start].startswith(_ZIP64_LOCATOR):
        raise ArchiveError(f"{path}: a zip64 archive; more than 65535 files or 4 GiB are refused")
    (size,) = struct.unpack_from("<I", tail, start + 12)
    if size > MAX_FILES * _TABLE_BYTES_PER_ENTRY:
        much = f"its table of contents has {size} bytes"
        raise ArchiveError(f"{path}: {much}, far beyond {MAX_FILES} files")


def _read_entries(path: Path, archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Check all entries by their headers, then read them."""
    infos = archive.infolist()
    total = _check_all(path, ((i.filename, i.external_attr >> 16, i.file_size) for i in infos))
    for info in infos:
        _check_entry(path, info)
        if archive.getinfo(info.filename) is not info:  # the last one of a name
            raise ArchiveError(f"{path}: {info.filename!r} stands twice")
    packed = path.stat().st_size  # of the file itself: entries may share their packed bytes
    if total > max(FREE_BYTES, MAX_RATIO * packed):
        more = f"more than {MAX_RATIO} times as many"
        raise ArchiveError(f"{path}: {packed} bytes unpack to {total}, {more}")
    entries = [info for info in infos if not info.is_dir()]
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
    """Whether a file is what a system leaves: ``._1.in``, ``__MACOSX/P1/._1.in``, ``.DS_Store``."""
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


def _check_all(path: Path, entries: Iterable[tuple[str, int, int]]) -> int:
    """Refuse links, special files, archives inside, and too much; gives the bytes of all.

    An entry has a name, a mode, which is 0 where a zip has no Unix modes, and a size in bytes.
    """
    total = 0
    for count, (name, mode, size) in enumerate(entries, start=1):
        kind = stat.S_IFMT(mode)
        total += size
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
            raise ArchiveError(f"{path}: {name!r} is {what}; only plain files are read")
        if PurePosixPath(name).suffix.lower() in _ARCHIVE_SUFFIXES and not is_left_behind(name):
            raise ArchiveError(f"{path}: {name!r} is an archive inside; unpack it first")
        if count > MAX_FILES:
            raise ArchiveError(f"{path}: more than {MAX_FILES} files")
        if size > MAX_FILE_BYTES:
            raise ArchiveError(f"{path}: {name!r} has {size} bytes, allowed are {MAX_FILE_BYTES}")
        if total > MAX_TOTAL_BYTES:
            raise ArchiveError(f"{path}: more than {MAX_TOTAL_BYTES} bytes in all")
    return total


def decode_statement(where: str, data: bytes) -> str:
    """Decode a text that people should read; an ArchiveError names the file ``where``."""
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if utf16 else ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        # any bytes are some GBK characters, but then few of them are of GB 2312
        foreign = [character for character in text if character > "\x7f"]
        common = len("".join(foreign).encode("gb2312", "ignore")) // 2
        if encoding != "gb18030" or common >= _LEAST_COMMON * len(foreign):
            return text
    raise ArchiveError(f"{where}: the text is neither UTF-8 nor GBK; save it as UTF-8")
