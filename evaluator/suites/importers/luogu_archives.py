"""Luogu test data as problems: one zip or folder, or a folder of them.

A problem's id is the name of its zip or folder. Its statement is ``statement.md`` inside,
``<id>.md`` beside, or given; a problem without one can be judged, but no model can be asked.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from evaluator.errors import ArchiveError, SuiteError
from evaluator.suites.data_files import decode_statement, is_left_behind, list_folder
from evaluator.suites.importers.draft import Draft, Note, Reason
from evaluator.suites.importers.headings import read_heading
from evaluator.suites.importers.rows import holds_rows, read_rows
from evaluator.suites.importers.statements import statement_text
from evaluator.suites.luogu_data import LuoguData, load_luogu_data

logger = logging.getLogger(__name__)

Statements = Mapping[str, str | ArchiveError]
_STATEMENT_SUFFIXES = (".md", ".txt")
_MAX_STATEMENT_BYTES = 4 << 20


def drafts_of_archives(path: Path, statements: Statements) -> Iterator[Draft | Note]:
    """Yield the problems of a zip, a folder of test data, or a folder of these, in order.

    Statements that are given go before those that lie with the data. Data that cannot be used
    becomes a refusal where it is one of several, else an error.
    """
    entries = [] if path.is_file() else list_folder(path)
    data = (e for e in entries if e.suffix.lower() == ".in" and not is_left_behind(e.name))
    if path.is_file() or any(data):
        found = load_luogu_data(path)
        yield _draft(path, found, statements, _statement_file(path.parent, _id(path)))
        return
    ids = {_id(entry) for entry in entries if entry.suffix not in _STATEMENT_SUFFIXES}
    for entry in entries:
        if is_left_behind(entry.name):
            yield Note(entry.name, "", "unused", entry.name)
            continue
        if entry.suffix in _STATEMENT_SUFFIXES and entry.stem in ids:
            continue  # the statement of another entry
        try:
            if not entry.is_dir() and not _is_zip(entry):
                raise ArchiveError(f"{entry}: neither a zip or folder nor the statement of one")
            if entry.is_symlink():
                raise ArchiveError(f"{entry}: is a symbolic link; only plain files are read")
            found = load_luogu_data(entry)
            yield _draft(entry, found, statements, _statement_file(path, _id(entry)))
        except ArchiveError as error:
            yield Draft(entry.name, _id(entry), "", refusal=Reason("unreadable", str(error)))


def read_statements(path: Path) -> dict[str, str | ArchiveError]:
    """Read statements to go with test data: problem id -> statement, or why it cannot be read.

    They are ``<id>.md`` files of a folder, or rows with statements whose headings have the ids.
    """
    found: dict[str, str | ArchiveError] = {}
    if path.is_dir() and not holds_rows(path):
        for entry in list_folder(path):
            if entry.suffix in _STATEMENT_SUFFIXES and not is_left_behind(entry.name):
                try:
                    found[entry.stem] = _read_statement(entry)
                except ArchiveError as error:  # of this problem alone
                    found[entry.stem] = error
    else:
        for row in read_rows(path):
            try:
                text = statement_text(row)
            except SuiteError as error:  # of a problem that nobody knows
                logger.warning("%s", error)
                continue
            if (problem_id := read_heading(text).id) is not None:
                found.setdefault(problem_id, text)
    if not found:
        raise SuiteError(f"{path}: no statements (expected <id>.md files, or rows with headings)")
    return found


def _draft(path: Path, data: LuoguData, statements: Statements, beside: str | None) -> Draft:
    given = statements.get(_id(path))
    if isinstance(given, ArchiveError):
        raise given
    headed = read_heading(given or data.statement or beside or "")
    refusal = None
    if data.interactor is not None:
        refusal = Reason("interactive", f"brings {data.interactor}: no interactor here")
    elif data.foreign_checker is not None:
        refusal = Reason("special-judge", f"brings {data.foreign_checker}, which is no C++ source")
    return Draft(
        where=path.name,
        id=_id(path),
        statement=headed.statement,
        tests=data.tests,
        title=headed.title,
        prompt=headed.prompt,
        checker=data.checker,
        refusal=refusal,
        notes=tuple(("unused", name) for name in data.unused),
    )


def _id(path: Path) -> str:
    return path.stem if _is_zip(path) else path.name


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and not path.is_dir()


def _statement_file(folder: Path, problem_id: str) -> str | None:
    """Read the statement that lies beside test data, if there is one."""
    paths = [folder / f"{problem_id}{suffix}" for suffix in _STATEMENT_SUFFIXES]
    return next((_read_statement(path) for path in paths if path.is_file()), None)


def _read_statement(path: Path) -> str:
    try:
        if path.is_symlink() or path.stat().st_size > _MAX_STATEMENT_BYTES:
            raise ArchiveError(f"{path}: a link, or more than {_MAX_STATEMENT_BYTES} bytes")
        return decode_statement(str(path), path.read_bytes())
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read ({error})") from error
