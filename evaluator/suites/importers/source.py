"""Reads a source of any form: which form it has, and its problems one after the other."""

from collections.abc import Callable, Iterator, KeysView, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from evaluator.errors import SuiteError, shown
from evaluator.suites.data_files import DataLimits
from evaluator.suites.importers.code_contests import GROUPS, draft_of_code_contests
from evaluator.suites.importers.draft import Draft, Note, Reason, Skipped
from evaluator.suites.importers.finish import DefaultLimits, finish
from evaluator.suites.importers.headings import read_heading
from evaluator.suites.importers.input_output import (
    ID_FIELDS,
    TEST_FIELDS,
    draft_of_input_output,
)
from evaluator.suites.importers.luogu_archives import Statements, drafts_of_archives
from evaluator.suites.importers.rows import Row, holds_rows, read_rows
from evaluator.suites.importers.statements import draft_of_statement
from evaluator.suites.importers.upstream import draft_of_upstream
from evaluator.suites.problem import Problem

Form = Literal["upstream", "code-contests", "input-output", "statements", "luogu-data"]
FORMS: tuple[Form, ...] = get_args(Form)
_ROWS_LOOKED_AT = 20  # for the form of most of them


def read_source(
    path: Path,
    form: Form | None = None,
    *,
    limits: DefaultLimits | None = None,
    statements: Statements | None = None,
    data_limits: DataLimits | None = None,
) -> Iterator[Problem | Skipped | Note]:
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
    """Tell a source's form from its kind of file and the fields of its first rows.

    Raises:
        SuiteError: If there is nothing, or nothing of a known form.
    """
    if not path.exists():
        raise SuiteError(f"{path}: no such file or directory")
    if (path / "suite.json").is_file():
        raise SuiteError(f"{path}: is a suite already; it needs no import")
    if path.suffix.lower() == ".zip" or (path.is_dir() and not holds_rows(path)):
        return "luogu-data"
    looked_at = list(islice(read_rows(path), _ROWS_LOOKED_AT))
    if not looked_at:
        raise SuiteError(f"{path}: no problem that can be judged (the file is empty)")
    found = [_form_of(row.values.keys()) for row in looked_at]
    with_tests = [form for form in found if form not in (None, "statements")]
    if form := max(with_tests, key=found.count, default="statements" if any(found) else None):
        return form  # a row of statements may be another form's without its tests
    first = looked_at[0]
    raise first.error(
        first.fault
        or f"fields {shown(sorted(first.values))} belong to no known form; name it with "
        f"--form ({', '.join(FORMS)}) if they should"
    )


def _form_of(fields: KeysView[str]) -> Form | None:
    """The form of a row with these fields."""
    if "test_cases" in fields:
        return "upstream"
    if not fields.isdisjoint(GROUPS):
        return "code-contests"
    if not fields.isdisjoint(TEST_FIELDS):
        return "input-output"
    return None if fields.isdisjoint({"conversations", "prompt"}) else "statements"


def _draft(form: Form, row: Row) -> Draft:
    """Read one row of a form; a malformed one becomes a refusal, and the next one follows."""
    try:
        if row.fault:
            raise row.error(row.fault)
        return _READERS[form](row)
    except SuiteError as error:
        prompt = row.values.get("prompt")
        headed = read_heading(prompt).id if isinstance(prompt, str) else None
        problem_id = headed or row.named("name", *ID_FIELDS)
        return Draft(row.where, problem_id, "", refusal=Reason("unreadable", str(error)))


_READERS: Mapping[str, Callable[[Row], Draft]] = {
    "upstream": draft_of_upstream,
    "statements": draft_of_statement,
    "code-contests": draft_of_code_contests,
    "input-output": draft_of_input_output,
}
