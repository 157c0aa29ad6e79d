"""CodeContests and what has its form.

A row has ``description`` and, in ``public_tests``, ``private_tests`` and ``generated_tests``, two
lists ``{"input": [...], "output": [...]}`` or a list of pairs; ``time_limit`` is ``{"seconds": 2,
"nanos": 0}``. ``input_file`` and ``output_file`` name files that are used instead of the streams.
"""

from collections.abc import Iterator

from evaluator.suites.importers.draft import Draft, Importer, Reason, limits_of
from evaluator.suites.importers.rows import Row
from evaluator.suites.problem import TestCase

_GROUPS = ("public_tests", "private_tests", "generated_tests")


def _read_row(row: Row) -> Draft:
    values = row.values
    description, name = values.get("description"), values.get("name")
    if not isinstance(description, str):
        raise row.error("expected an object with a string 'description'")
    files = [values.get(key) for key in ("input_file", "output_file")]
    try:
        limits = limits_of(values.get("time_limit"), values.get("memory_limit_bytes"), "b")
    except ValueError as error:
        raise row.error(str(error)) from error
    return Draft(
        where=row.where,
        id=row.named("name"),
        statement=description,
        tests=tuple(_tests(row)),
        title=name if isinstance(name, str) else "",
        **limits,
        refusal=Reason("file-io", f"reads or writes files: {files}") if any(files) else None,
    )


def _tests(row: Row) -> Iterator[TestCase]:
    for group in _GROUPS:
        found = row.values.get(group) or {"input": [], "output": []}
        if isinstance(found, list) and all(isinstance(case, dict) for case in found):
            found = {key: [case.get(key) for case in found] for key in ("input", "output")}
        pair = [found.get(key) for key in ("input", "output")] if isinstance(found, dict) else []
        lists = [v for v in pair if isinstance(v, list) and all(isinstance(t, str) for t in v)]
        if len(lists) != 2 or len(lists[0]) != len(lists[1]):
            raise row.error(f"{group!r} needs lists of strings 'input' and 'output', equally long")
        for number, (inp, out) in enumerate(zip(*lists, strict=True), start=1):
            name = f"{group.removesuffix('_tests')}-{number}"
            yield TestCase(name, inp, out, pretest=group == "public_tests")


IMPORTER = Importer("code-contests", frozenset(_GROUPS), _read_row)
