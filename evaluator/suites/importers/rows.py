"""Rows of a source: JSON lines, or a data set that ``datasets`` saved to disk."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.errors import SuiteError

MAX_LINE_BYTES = 1 << 30
_SAVED_MARKS = ("dataset_dict.json", "dataset_info.json", "state.json")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        source: The file or directory it stands in.
        where: Its place there: ``line 3`` or ``row 3``.
        number: From 1; the id of a problem that has none.
        values: Its fields.
    """

    source: Path
    where: str
    number: int
    values: dict[str, Any]

    def error(self, problem: str) -> SuiteError:
        """An error that names the row's place."""
        return SuiteError(f"{self.source}, {self.where}: {problem}")


def is_saved_dataset(path: Path) -> bool:
    """Whether a directory is what ``save_to_disk`` of ``datasets`` writes."""
    return any((path / mark).is_file() for mark in _SAVED_MARKS)


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows, one at a time.

    Args:
        path: A ``.jsonl`` file, or a directory of ``save_to_disk`` (all splits, one after the
            other).

    Raises:
        SuiteError: If it cannot be read, or a row is no object.
    """
    rows = _saved_rows(path) if path.is_dir() else _json_lines(path)
    for where, number, values in rows:
        if not isinstance(values, dict):
            found = type(values).__name__
            raise SuiteError(f"{path}, {where}: expected a JSON object, found {found}")
        yield Row(path, where, number, values)


def _json_lines(path: Path) -> Iterator[tuple[str, int, Any]]:
    """Yield (place, number, value) of every line that is not blank."""
    number = 0
    try:
        with path.open("rb") as stream:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if line.strip():
                    yield f"line {number}", number, _parse(f"{path}, line {number}", line)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error})") from error


def _parse(where: str, line: bytes) -> Any:
    """Read one line of JSON; a byte order mark may stand before it."""
    if len(line) > MAX_LINE_BYTES:
        raise SuiteError(
            f"{where}: more than {MAX_LINE_BYTES} bytes; expected one JSON object a line"
        )
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SuiteError(f"{where}: not UTF-8 ({error})") from error
    except (ValueError, RecursionError) as error:
        raise SuiteError(f"{where}: not JSON ({error})") from error


def _saved_rows(path: Path) -> Iterator[tuple[str, int, Any]]:
    """Yield (place, number, value) of every row of a saved data set."""
    import datasets  # seconds to import, and only this form needs it

    try:
        saved = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise SuiteError(f"{path}: not a data set that load_from_disk reads ({error})") from error
    splits = saved.values() if isinstance(saved, datasets.DatasetDict) else [saved]
    number = 0
    for split in splits:
        for row in split:
            number += 1
            yield f"row {number}", number, row
