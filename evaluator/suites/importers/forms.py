"""The forms that can be imported: which one a source has, and what it holds.

A form of rows is an ``Importer`` in a file of its own and a line in ``IMPORTERS``; Luogu test data
is the one form that is no rows.
"""

from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path

from evaluator.errors import SuiteError, shown
from evaluator.suites.importers.draft import (
    Draft,
    Importer,
    Note,
    Reason,
    Skipped,
    read_heading,
)
from evaluator.suites.importers.drafts_to_problems import DefaultLimits, drafts_to_problems
from evaluator.suites.importers.luogu_archives import Statements, drafts_of_archives
from evaluator.suites.importers.rows import ID_FIELDS, Row, holds_rows, read_rows
from evaluator.suites.problem import Problem

# One line for each file; where the fields of a row fit several, the first is taken.
_FILES = (
    "upstream",
    "code_contests",
    "input_output",
    "statements",
)
IMPORTERS: dict[str, Importer] = {
    importer.name: importer
    for importer in (import_module(f"{__package__}.{file}").IMPORTER for file in _FILES)
}
LUOGU_DATA = "luogu-data"
_ROWS_LOOKED_AT = 20  # for the form of most of them


def read_source(
    path: Path,
    form: str | None = None,
    *,
    limits: DefaultLimits | None = None,
    statements: Statements | None = None,
) -> Iterator[Problem | Skipped | Note]:
    """Read what a file or directory holds, one problem in memory at a time.

    ``form`` is one of :func:`forms`, or detected; ``limits`` are of problems that bring none;
    ``statements``, by problem id, go with test data.
    """
    form = form or detect_form(path)
    if form == LUOGU_DATA:
        drafts = drafts_of_archives(path, statements or {})
    elif form in IMPORTERS:
        drafts = (_draft(IMPORTERS[form], row) for row in read_rows(path))
    else:
        raise SuiteError(f"no form {form!r}; the forms are {', '.join(forms())}")
    return drafts_to_problems(drafts, path.name, limits or DefaultLimits())


def forms() -> tuple[str, ...]:
    """The names of all forms."""
    return (*IMPORTERS, LUOGU_DATA)


def detect_form(path: Path) -> str:
    """Tell a source's form from its kind of file and the fields of its first rows."""
    if not path.exists():
        raise SuiteError(f"{path}: no such file or directory")
    if (path / "suite.json").is_file():
        raise SuiteError(f"{path}: is a suite already; it needs no import")
    if path.suffix.lower() == ".zip" or (path.is_dir() and not holds_rows(path)):
        return LUOGU_DATA
    looked_at = list(islice(read_rows(path), _ROWS_LOOKED_AT))
    if not looked_at:
        raise SuiteError(f"{path}: no problem that can be judged (the file is empty)")
    fitting = ([i for i in IMPORTERS.values() if row.values.keys() & i.fields] for row in looked_at)
    found = [importers[0] for importers in fitting if importers]
    # a row of a statement alone may be another form's without its tests
    with_tests = [importer for importer in found if importer.has_tests]
    if found:
        return max(with_tests or found, key=found.count).name
    first = looked_at[0]
    unknown = f"fields {shown(sorted(first.values))} belong to no known form; name it with --form"
    raise first.error(first.fault or f"{unknown} ({', '.join(forms())}) if they should")


def _draft(importer: Importer, row: Row) -> Draft:
    """Read one row; a malformed one becomes a refusal, and the next one follows."""
    try:
        if row.fault:
            raise row.error(row.fault)
        return importer.read_row(row)
    except SuiteError as error:
        prompt = row.values.get("prompt")
        headed = read_heading(prompt)[0] if isinstance(prompt, str) else None
        problem_id = headed or row.named("name", *ID_FIELDS)
        return Draft(row.where, problem_id, "", refusal=Reason("unreadable", str(error)))
