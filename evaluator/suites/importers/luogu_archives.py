"""Luogu test data as problems: one zip or folder, or a folder of them.

A problem's id is the name of its zip or folder. Its statement is ``statement.md`` inside, or
``<id>.md`` beside, or comes from a file or folder of statements; a problem without one can be
judged, but no model can be asked.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from evaluator.errors import ArchiveError, SuiteError
from evaluator.suites.data_files import DataLimits
from evaluator.suites.importers.draft import Draft, Reason
from evaluator.suites.importers.headings import read_heading
from evaluator.suites.importers.rows import is_saved_dataset, read_rows
from evaluator.suites.importers.statements import statement_text
from evaluator.suites.luogu_data import LuoguData, load_luogu_data

MAX_ENTRIES = 20_000
_MAX_STATEMENT_BYTES = 4 << 20


def drafts_of_archives(
    path: Path, statements: Mapping[str, str], limits: DataLimits | None = None
) -> Iterator[Draft]:
    """Yield the problems, in the order of their names.

    Args:
        path: A zip, a folder of test data, or a folder of zips and folders.
        statements: Problem id -> statement, before those that lie with the data.
        limits: Bounds of one problem's data; None means the defaults.

    Raises:
        ArchiveError: If the one problem's data cannot be used. Of several, such a one becomes a
            refusal.
    """
    if path.is_file() or _holds_tests(path):
        found = load_luogu_data(path, limits)
        beside = _statement_file(path.parent, path.stem if path.is_file() else path.name)
        yield _draft(path, found, statements, beside)
        return
    entries = _entries(path)
    ids = {entry.stem if entry.suffix == ".zip" else entry.name for entry in entries}
    for entry in entries:
        if entry.suffix in (".md", ".txt") and entry.stem in ids:
            continue  # the statement of another entry
        try:
            if not entry.is_dir() and entry.suffix != ".zip":
                raise ArchiveError(f"{entry}: neither a zip or folder nor the statement of one")
            if entry.is_symlink():
                raise ArchiveError(f"{entry}: is a symbolic link; only plain files are read")
            found = load_luogu_data(entry, limits)
            name = entry.stem if entry.suffix == ".zip" else entry.name
            yield _draft(entry, found, statements, _statement_file(path, name))
        except ArchiveError as error:
            yield Draft(entry.name, entry.stem, "", refusal=Reason("unreadable", str(error)))


def read_statements(path: Path) -> dict[str, str]:
    """Read statements to go with test data.

    Args:
        path: A folder of ``<id>.md`` files, or rows with statements (JSON lines, or a saved data
            set) whose headings have the ids.

    Raises:
        SuiteError: If it cannot be read, or has no statement.
    """
    found: dict[str, str] = {}
    if path.is_dir() and not is_saved_dataset(path):
        for entry in _entries(path):
            if entry.suffix in (".md", ".txt"):
                found[entry.stem] = _read_statement(entry)
    else:
        for row in read_rows(path):
            text = statement_text(row)
            if (problem_id := read_heading(text).id) is not None:
                found.setdefault(problem_id, text)
    if not found:
        raise SuiteError(f"{path}: no statements (expected <id>.md files, or rows with headings)")
    return found


def _draft(path: Path, data: LuoguData, statements: Mapping[str, str], beside: str | None) -> Draft:
    """Join test data and statement."""
    problem_id = path.stem if path.suffix == ".zip" else path.name
    headed = read_heading(statements.get(problem_id) or data.statement or beside or "")
    refusal = None
    if data.interactor is not None:
        refusal = Reason("interactive", f"brings {data.interactor}: no interactor here")
    return Draft(
        where=path.name,
        id=problem_id,
        statement=headed.statement,
        tests=data.tests,
        title=headed.title,
        prompt=headed.prompt,
        checker=data.checker,
        refusal=refusal,
    )


def _holds_tests(folder: Path) -> bool:
    return any(entry.suffix == ".in" for entry in _entries(folder))


def _entries(folder: Path) -> list[Path]:
    """List a folder in order, up to a bound."""
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                found.append(folder / entry.name)
                if len(found) > MAX_ENTRIES:
                    raise ArchiveError(f"{folder}: more than {MAX_ENTRIES} entries")
    except OSError as error:
        raise ArchiveError(f"{folder}: cannot be read ({error})") from error
    return sorted(found)


def _statement_file(folder: Path, problem_id: str) -> str | None:
    """Read the statement that lies beside test data, if there is one."""
    paths = [folder / f"{problem_id}{suffix}" for suffix in (".md", ".txt")]
    return next((_read_statement(path) for path in paths if path.is_file()), None)


def _read_statement(path: Path) -> str:
    """Read one statement.

    Raises:
        ArchiveError: If it is a link, too large, or not UTF-8.
    """
    if path.is_symlink() or path.stat().st_size > _MAX_STATEMENT_BYTES:
        raise ArchiveError(f"{path}: a link, or more than {_MAX_STATEMENT_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{path}: cannot be read as UTF-8 ({error})") from error
