"""Rows that are a statement and nothing else; the tests are the samples inside it.

The DPO data set has it in ``conversations[0].value``, upstream's failed extractions in ``prompt``.
"""

import re

from evaluator.suites.importers.draft import Draft, Importer, Reason
from evaluator.suites.importers.headings import read_heading
from evaluator.suites.importers.rows import Row
from evaluator.suites.importers.samples import find_samples
from evaluator.suites.importers.screening import split_note, tells_of_elision
from evaluator.suites.problem import Checker, TestCase


def _read_row(row: Row) -> Draft:
    headed = read_heading(statement_text(row))
    tests: list[TestCase] = []
    left_out: list[tuple[str, Reason]] = []
    for number, (inp, out) in enumerate(find_samples(headed.statement), start=1):
        name = str(number)
        if inp is None or out is None:
            missing = "input" if inp is None else "output"
            left_out.append((name, Reason("unreadable", f"a sample without its {missing}")))
            continue
        (inp, in_note), (out, out_note) = split_note(inp), split_note(out)
        if tells_of_elision(in_note) or tells_of_elision(out_note):
            left_out.append((name, Reason("elided", "a note says that data is left out")))
        else:
            tests.append(TestCase(name=name, input=inp, output=out, pretest=True))
    return Draft(
        where=row.where,
        id=headed.id or str(row.number),
        statement=headed.statement,
        tests=tuple(tests),
        title=headed.title,
        prompt=headed.prompt,
        checker=Checker("tokens") if any(_double_spaced(t.output) for t in tests) else None,
        from_statement=True,
        left_out=tuple(left_out),
    )


def statement_text(row: Row) -> str:
    """Give what a model is shown: the first turn that is not the system's, or ``prompt``."""
    if row.fault:
        raise row.error(row.fault)
    turns = row.values.get("conversations")
    text = row.values.get("prompt")
    if isinstance(turns, list):
        spoken = [t for t in turns if isinstance(t, dict) and t.get("from") != "system"]
        text = spoken[0].get("value") if spoken else None
    if not isinstance(text, str):
        raise row.error("expected a string in 'conversations[0].value' or 'prompt'")
    return text


def _double_spaced(output: str) -> bool:
    """Whether a blank line stands between any two lines; the judge's data may be without them."""
    lines = [line.strip() for line in re.split(r"\r?\n", output.rstrip())]
    return len(lines) > 2 and len(lines) % 2 == 1 and all(lines[::2]) and not any(lines[1::2])


IMPORTER = Importer(
    "statements", frozenset({"conversations", "prompt"}), _read_row, has_tests=False
)
