"""The upstream project's RL data: ``{"prompt": str, "test_cases": [{"input", "output"}, ...]}``.

The statement stands inside the prompt, from its heading ``# P1002 [NOIP 2002] ...`` on.
"""

from evaluator.suites.importers.draft import Draft, Importer
from evaluator.suites.importers.headings import read_heading
from evaluator.suites.importers.rows import Row
from evaluator.suites.problem import TestCase


def _read_row(row: Row) -> Draft:
    prompt, cases = row.values.get("prompt"), row.values.get("test_cases")
    if not isinstance(prompt, str):
        raise row.error("expected an object with a string 'prompt'")
    if not isinstance(cases, list):
        raise row.error(f"expected a list 'test_cases', found {type(cases).__name__}")
    tests = []
    for number, case in enumerate(cases, start=1):
        inp, out = (case.get("input"), case.get("output")) if isinstance(case, dict) else (0, 0)
        if not (isinstance(inp, str) and isinstance(out, str)):
            raise row.error(f"test case {number} needs strings 'input' and 'output'")
        tests.append(TestCase(str(number), inp, out))
    headed = read_heading(prompt)
    return Draft(
        where=row.where,
        id=headed.id or str(row.number),
        statement=headed.statement,
        tests=tuple(tests),
        title=headed.title,
        prompt=headed.prompt,
        from_statement=True,
    )


IMPORTER = Importer("upstream", frozenset({"test_cases"}), _read_row)
