"""Reads a source of any form: which form it has, and its problems one after the other."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from evaluator.errors import SuiteError
from evaluator.suites.data_files import DataLimits
from evaluator.suites.importers.code_contests import GROUPS, draft_of_code_contests
from evaluator.suites.importers.draft import Draft, Skipped
from evaluator.suites.importers.finish import DefaultLimits, finish
from evaluator.suites.importers.input_output import TEST_FIELDS, draft_of_input_output
from evaluator.suites.importers.luogu_archives import drafts_of_archives
from evaluator.suites.importers.rows import Row, is_saved_dataset, read_rows
from evaluator.suites.importers.statements import draft_of_statement
from evaluator.suites.importers.upstream import draft_of_upstream
from evaluator.suites.problem import Problem

Form = Literal["upstream", "statements", "code-contests", "input-output", "luogu-data"]
FORMS: tuple[Form, ...] = get_args(Form)


def read_source(
    path: Path,
    form: Form | None = None,
    *,
    limits: DefaultLimits | None = None,
    statements: Mapping[str, str] | None = None,
    data_limits: DataLimits | None = None,
) -> Iterator[Problem | Skipped]:
    """Yield what a source holds, one problem in memory at a time.

    Args:
        path: File or directory.
        form: None means that it is detected.
        limits: Of problems that bring none.
        statements: Problem id -> statement, for test data.
        data_limits: Bounds of one problem's archive.

    Raises:
        SuiteError: If the source is missing, or not of the form.
    """
    form = form or detect_form(path)
    if form == "luogu-data":
        drafts = drafts_of_archives(path, statements or {}, data_limits)
    else:
        drafts = (_draft(form, row) for row in read_rows(path))
    yield from finish(drafts, path.name, limits or DefaultLimits())


def form_of(name: str | None) -> Form | None:
    """Give the form of a name, as a command line has it.

    Raises:
        SuiteError: If there is no such form.
    """
    if name is None:
        return None
    for form in FORMS:
        if form == name:
            return form
    raise SuiteError(f"no form {name!r}; the forms are {', '.join(FORMS)}")


def detect_form(path: Path) -> Form:
    """Tell a source's form from its kind of file and the fields of its first row.

    Raises:
        SuiteError: If there is nothing, or nothing of a known form.
    """
    if not path.exists():
        raise SuiteError(f"{path}: no such file or directory")
    if (path / "suite.json").is_file():
        raise SuiteError(f"{path}: is a suite already; it needs no import")
    if path.suffix == ".zip" or (path.is_dir() and not is_saved_dataset(path)):
        return "luogu-data"
    first = next(read_rows(path), None)
    if first is None:
        raise SuiteError(f"{path}: no problem that can be judged (the file is empty)")
    fields = first.values.keys()
    if "test_cases" in fields:
        return "upstream"
    if not fields.isdisjoint(GROUPS):
        return "code-contests"
    if not fields.isdisjoint(TEST_FIELDS):
        return "input-output"
    if not fields.isdisjoint({"conversations", "prompt"}):
        return "statements"
    raise first.error(
        f"fields {sorted(fields)} belong to no known form; name it with --form "
        f"({', '.join(FORMS)}) if they should"
    )


def _draft(form: Form, row: Row) -> Draft:
    """Read one row of a form."""
    match form:
        case "upstream":
            return draft_of_upstream(row)
        case "statements":
            return draft_of_statement(row)
        case "code-contests":
            return draft_of_code_contests(row)
        case _:
            return draft_of_input_output(row)
