"""Rows of a source: JSON lines, a JSON array, Parquet, or a data set that ``datasets`` saved.

A row that cannot be read is given with its fault, and the next one follows.
"""

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Any

from evaluator.errors import SuiteError

MAX_LINE_BYTES = 256 << 20  # also of a whole JSON array
_SAVED_MARKS = ("dataset_dict.json", "dataset_info.json", "state.json")
_ROW_FILES = (".parquet", ".jsonl", ".jsonl.gz")
_RATIO, _FREE_BYTES = 200, 16 << 20  # bytes unpacked for each byte packed, and in any case
_MARK = b"\xef\xbb\xbf"  # of byte order
_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
# a whole string, or a byte that nests; possessive, so that no string is tried a second time
_JSON_PART = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]', re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        source: The file or directory it stands in.
        where: Its place there: ``line 3`` or ``row 3``.
        number: From 1; the id of a problem that has none.
        values: Its fields.
        fault: Why it could not be read; empty where it could.
    """

    source: Path
    where: str
    number: int
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""

    def error(self, problem: str) -> SuiteError:
        """An error that names the row's place."""
        return SuiteError(f"{self.source}, {self.where}: {problem}")

    def named(self, *fields: str) -> str:
        """The first text or whole number in these fields, or else the row's own number."""
        found = (self.values.get(name) for name in fields)
        return next((str(v) for v in found if v and type(v) in (str, int)), str(self.number))


class _Fault(str):
    """What stands in a row's place that could not be read."""


_Place = tuple[str, int, Any]  # line, row or item; its number; its value or fault


def is_saved_dataset(path: Path) -> bool:
    """Whether a directory is what ``save_to_disk`` of ``datasets`` writes."""
    return any((path / mark).is_file() for mark in _SAVED_MARKS)


def holds_rows(path: Path) -> bool:
    """Whether a directory has rows in it, saved or as files, and no test data beside them."""
    if not path.is_dir() or is_saved_dataset(path):
        return path.is_dir()
    data = any(entry.suffix.lower() in (".zip", ".in") for entry in _entries(path))
    return bool(_row_files(path)) and not data


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows, one at a time; of a directory all splits or files, one after the other.

    Args:
        path: A file of JSON lines or a JSON array, packed with gzip or not; a Parquet file; a
            directory of ``save_to_disk``; a directory with such files in it or in its ``data``.

    Raises:
        SuiteError: If it cannot be read at all.
    """
    saved = path.is_dir() and is_saved_dataset(path)
    files = _row_files(path) if path.is_dir() and not saved else [path]
    before = 0
    for file in files:
        inside, number = "" if file == path else f"{file.relative_to(path)}, ", 0
        for unit, number, value in _saved_rows(path) if saved else _file_rows(file):
            row = Row(path, f"{inside}{unit} {number}", before + number)
            if isinstance(value, dict):
                yield replace(row, values=value)
            elif isinstance(value, _Fault):
                yield replace(row, fault=str(value))
            else:
                found = type(value).__name__
                yield replace(row, fault=f"expected a JSON object, found {found}")
        before += number


def _row_files(path: Path) -> list[Path]:
    """Files of rows in a directory or its ``data``, as hubs of data sets have them."""
    folders = [folder for folder in (path, path / "data") if folder.is_dir()]
    files = (entry for folder in folders for entry in _entries(folder))
    return [file for file in files if file.name.lower().endswith(_ROW_FILES) and file.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise SuiteError(f"{folder}: cannot be read ({error})") from error


def _file_rows(path: Path) -> Iterator[_Place]:
    """Yield every row of a file, told apart by its first bytes."""
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
            stream.seek(0)
            if start == _PARQUET_MAGIC:
                yield from _parquet_rows(path)
            elif start.startswith(_GZIP_MAGIC):
                most = max(_FREE_BYTES, _RATIO * path.stat().st_size)
                with gzip.open(stream) as unpacked:
                    yield from _json_rows(unpacked, most)
            else:
                yield from _json_rows(stream)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error})") from error


def _json_rows(stream: BufferedIOBase, most: float = math.inf) -> Iterator[_Place]:
    """Yield JSON lines, or the items of a JSON array, of so many bytes at most."""
    number = 0
    try:
        first = stream.readline(MAX_LINE_BYTES + 1)
        second = stream.readline(MAX_LINE_BYTES + 1) if _opens_list(first) else b""
        if _opens_list(first) and not (_is_row(first) and second.lstrip().startswith(b"{")):
            rest = max(0, MAX_LINE_BYTES + 1 - len(first) - len(second))
            yield from _array_items(first + second + stream.read(rest))
            return
        more = iter(partial(stream.readline, MAX_LINE_BYTES + 1), b"")
        for number, line in enumerate(chain(filter(None, (first, second)), more), start=1):
            most -= len(line)
            if most < 0:
                yield "line", number, _Fault("the packed file unpacks to far more than itself")
                return
            if len(line) > MAX_LINE_BYTES:
                yield "line", number, _too_long()
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_LINE_BYTES)
            elif line.strip():
                yield "line", number, _parse(line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        fault = f"the packed file is broken from here on ({error})"
        yield "line", number + 1, _Fault(fault)


def _opens_list(line: bytes) -> bool:
    return line.removeprefix(_MARK).lstrip().startswith(b"[")


def _is_row(line: bytes) -> bool:
    """Whether a line that opens a list is a (bad) row of its own, not the start of an array."""
    text = line.removeprefix(_MARK).replace(b" ", b"").strip()
    return text not in (b"[", b"[{") and not text.endswith(b",")


def _array_items(data: bytes) -> Iterator[_Place]:
    """Yield the items of a JSON array, one object in memory at a time."""
    number, depth, start = 0, 0, 0
    if len(data) > MAX_LINE_BYTES:
        yield "item", 1, _too_long()
        return
    for part in _JSON_PART.finditer(data):
        mark = part[0][:1]
        depth += (mark in b"[{") - (mark in b"]}")
        if depth == 1 and mark == b"[":
            start = part.end()
        elif (depth == 1 and mark == b",") or (depth == 0 and mark in b"]}"):
            item, start = data[start : part.start()], part.end()
            if item.strip() or mark == b",":
                number += 1
                yield "item", number, _parse(item)
            if depth == 0:
                break
    if rest := data[start:].strip():
        yield "item", number + 1, _Fault(f"not JSON (the array is torn: {rest[:20]!r})")


def _too_long() -> _Fault:
    return _Fault(f"more than {MAX_LINE_BYTES} bytes; expected one JSON object a line")


def _parse(line: bytes) -> Any:
    """Read one value of JSON; a byte order mark may stand before it."""
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _Fault(f"not UTF-8 ({error})")
    except (ValueError, RecursionError) as error:
        return _Fault(f"not JSON ({error})")


def _parquet_rows(path: Path) -> Iterator[_Place]:
    """Yield every row of a Parquet file."""
    import pyarrow
    import pyarrow.parquet  # half a second to import, and only this form needs it

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=16):
                for index in range(batch.num_rows):
                    number += 1
                    try:
                        yield "row", number, batch.slice(index, 1).to_pylist()[0]
                    except (pyarrow.ArrowException, ValueError) as error:
                        yield "row", number, _Fault(f"not readable ({error})")
    except (pyarrow.ArrowException, OSError) as error:
        yield "row", number + 1, _Fault(f"not readable from here on ({error})")


def _saved_rows(path: Path) -> Iterator[_Place]:
    """Yield every row of a saved data set."""
    import datasets  # seconds to import, and only this form needs it

    number = 0
    try:
        saved = datasets.load_from_disk(str(path))
        for split in saved.values() if isinstance(saved, datasets.DatasetDict) else [saved]:
            for row in split:
                number += 1
                yield "row", number, row
    except Exception as error:  # of any library below, about any of the folder's files
        if number == 0:
            raise SuiteError(
                f"{path}: not a data set that load_from_disk reads ({error})"
            ) from error
        yield "row", number + 1, _Fault(f"not readable from here on ({error})")
