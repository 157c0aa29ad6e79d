"""Rows of a source: JSON lines, a JSON array, Parquet, or a data set that ``datasets`` saved.

A row that cannot be read is given with its fault, and the next one follows.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.errors import SuiteError
from evaluator.suites.data_files import FREE_BYTES, MAX_RATIO, list_folder
from evaluator.suites.importers.json_rows import Fault, Place, json_rows

if TYPE_CHECKING:
    import pyarrow

ID_FIELDS = ("id", "problem_id", "question_id", "task_id", "name")
_SAVED_MARKS = ("dataset_dict.json", "dataset_info.json", "state.json")
_ROW_FILES = (".parquet", ".jsonl", ".jsonl.gz")
_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Row:
    """One row, by its number from 1 and its place: ``line 3`` or ``row 3``; or why it is none."""

    source: Path
    where: str
    number: int
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""

    def error(self, problem: str) -> SuiteError:
        """An error that names the row's place."""
        return SuiteError(f"{self.source}, {self.where}: {problem}")

    def named(self, *fields: str) -> str:
        """The first text or whole number, also 0, in these fields, or else the row's own number."""
        found = (self.values.get(name) for name in fields)
        # pandas writes a column of whole numbers as floats where one is missing
        whole = (int(v) if type(v) is float and v.is_integer() else v for v in found)
        texts = (str(value) for value in whole if type(value) in (str, int))
        return next(filter(None, texts), str(self.number))


def _is_saved_dataset(path: Path) -> bool:
    return any((path / mark).is_file() for mark in _SAVED_MARKS)


def holds_rows(path: Path) -> bool:
    """Whether a directory has rows in it, saved or as files, and no test data beside them."""
    if not path.is_dir() or _is_saved_dataset(path):
        return path.is_dir()
    data = any(entry.suffix.lower() in (".zip", ".in") for entry in list_folder(path))
    return bool(_row_files(path)) and not data


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows, one at a time; of a directory all splits or files, one after the other."""
    saved = path.is_dir() and _is_saved_dataset(path)
    files = _row_files(path) if path.is_dir() and not saved else [path]
    before = 0
    for file in files:
        inside, number = "" if file == path else f"{file.relative_to(path)}, ", 0
        found = _arrow_rows(map(_saved_batches, _saved_files(path))) if saved else _file_rows(file)
        for unit, number, value in found:
            place = path, f"{inside}{unit} {number}", before + number
            if isinstance(value, dict):
                yield Row(*place, values=value)
            else:
                wrong = f"expected a JSON object, found {type(value).__name__}"
                yield Row(*place, fault=str(value) if isinstance(value, Fault) else wrong)
        before += number


def _row_files(path: Path) -> list[Path]:
    """Files of rows in a directory or its ``data``, as hubs of data sets have them."""
    folders = [folder for folder in (path, path / "data") if folder.is_dir()]
    files = (entry for folder in folders for entry in list_folder(folder))
    return [file for file in files if file.name.lower().endswith(_ROW_FILES) and file.is_file()]


def _file_rows(path: Path) -> Iterator[Place]:
    """Yield every row of a file, told apart by its first bytes."""
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
            stream.seek(0)
            lines = path.name.lower().removesuffix(".gz").endswith(".jsonl")
            if start == _PARQUET_MAGIC:
                yield from _arrow_rows([_parquet_batches(path)])
            elif start.startswith(_GZIP_MAGIC):
                most = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
                with gzip.open(stream) as packed, BufferedReader(packed) as unpacked:
                    yield from json_rows(unpacked, lines, most)
            else:
                yield from json_rows(stream, lines)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error})") from error


def _parquet_batches(path: Path) -> "Iterator[pyarrow.RecordBatch]":
    import pyarrow.parquet  # half a second to import, and few forms need it

    with pyarrow.parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=16)


def _saved_batches(path: Path) -> "Iterator[pyarrow.RecordBatch]":
    import pyarrow

    with pyarrow.memory_map(str(path)) as stream:
        yield from pyarrow.ipc.open_stream(stream)


def _saved_files(path: Path) -> list[Path]:
    """The files of a saved data set, split by split."""
    try:
        whole = path / "dataset_dict.json"
        names = json.loads(whole.read_bytes())["splits"] if whole.is_file() else ["."]
        states = {name: json.loads((path / name / "state.json").read_bytes()) for name in names}
        files = [(name, e["filename"]) for name, s in states.items() for e in s["_data_files"]]
        if any("/" in name or ".." in name for pair in files for name in pair):
            raise ValueError("a name leaves the folder")
        return [path / split / name for split, name in files]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"not a data set as save_to_disk writes it ({error!r:.200})"
        raise SuiteError(f"{path}: {problem}") from error


def _arrow_rows(files: "Iterable[Iterator[pyarrow.RecordBatch]]") -> Iterator[Place]:
    """Yield every row of some files; what they claim is checked before it is looked at."""
    import pyarrow

    number = 0
    for batches in files:
        try:
            for batch in batches:
                batch.validate(full=True)
                for index in range(batch.num_rows):
                    number += 1
                    try:
                        yield "row", number, batch.slice(index, 1).to_pylist()[0]
                    except (pyarrow.ArrowException, ValueError) as error:
                        yield "row", number, Fault(f"not readable ({error})")
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            number += 1
            yield "row", number, Fault(f"not readable from here on ({error})")
