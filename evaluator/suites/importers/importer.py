"""What a form of rows has to say of itself to be imported."""

from collections.abc import Callable
from dataclasses import dataclass

from evaluator.suites.importers.draft import Draft
from evaluator.suites.importers.rows import Row


@dataclass(frozen=True)
class Importer:
    """A form of rows.

    Attributes:
        name: As ``--form`` and ``suite.json`` have it.
        fields: A row with any of these fields is taken for one of this form.
        read_row: Reads one row; a ``SuiteError`` lists it as unreadable, and the next one follows.
        has_tests: Whether rows have tests in fields of their own, or only in a statement.
    """

    name: str
    fields: frozenset[str]
    read_row: Callable[[Row], Draft]
    has_tests: bool = True
