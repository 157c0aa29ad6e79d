"""Sources written by hand, and what is read from them."""

import json

import pytest

from evaluator.suites.importers.draft import Skipped
from evaluator.suites.importers.forms import read_source
from evaluator.suites.problem import Problem


@pytest.fixture
def write_rows(tmp_path):
    """Write rows as JSON lines; each call makes a file of its own."""
    names = iter(f"rows{number}.jsonl" for number in range(1000))

    def write(*rows):
        path = tmp_path / next(names)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def read():
    """Read a source into (problems by id, everything skipped)."""

    def call(path, form=None, **options):
        items = list(read_source(path, form, **options))
        problems = {item.id: item for item in items if isinstance(item, Problem)}
        return problems, [item for item in items if isinstance(item, Skipped)]

    return call
