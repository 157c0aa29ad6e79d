"""APPS, TACO, DeepCoder and what has their form.

The tests stand in ``input_output`` or ``tests``, as an object or as a string of JSON::

    {"inputs": [...], "outputs": [...], "fn_name": "f"}
    [{"input": ..., "output": ..., "fn_name": "f", "type" or "testtype": "stdin"}, ...]

``fn_name`` (or ``func_name`` in ``metadata``) says that a function is called with values of Python:
such a problem has no program to run. An input or output is a string, or a list of lines.
"""

import json
from dataclasses import replace
from typing import Any

from evaluator.errors import shown
from evaluator.suites.importers.draft import Draft, Importer, Reason, limits_of
from evaluator.suites.importers.rows import ID_FIELDS, Row
from evaluator.suites.problem import TestCase

_TEST_FIELDS = ("input_output", "tests")
_STATEMENT_FIELDS = ("question", "problem", "description", "prompt")
_CALL_TYPES = ("functional", "function_call")


def _read_row(row: Row) -> Draft:
    """Read one row; what is wrong with its tests becomes a refusal."""
    values = row.values
    statement = next((v for k in _STATEMENT_FIELDS if isinstance(v := values.get(k), str)), None)
    if statement is None:
        raise row.error(f"expected a string in one of {', '.join(_STATEMENT_FIELDS)}")
    limits: dict[str, Any] = {}
    try:
        limits = limits_of(values.get("time_limit"), values.get("memory_limit"))
        found = _tests(values)
    except (ValueError, RecursionError) as error:
        found = Reason("unreadable", str(row.error(str(error))))
    draft = Draft(row.where, row.named(*ID_FIELDS), statement, **limits)
    if isinstance(found, Reason):
        return replace(draft, refusal=found)
    return replace(draft, tests=found)


def _tests(values: dict[str, Any]) -> tuple[TestCase, ...] | Reason:
    """Read the tests, or say why they are none; ValueError if they are not of this form."""
    source = _parsed(next((v for k in _TEST_FIELDS if (v := values.get(k)) is not None), None))
    metadata = _parsed(values.get("metadata"))
    function = _function_of(metadata) or _function_of(source)
    if isinstance(source, dict):
        inputs, outputs = source.get("inputs") or [], source.get("outputs") or []
    elif isinstance(source, list) and all(isinstance(case, dict) for case in source):
        function = function or next(filter(None, map(_function_of, source)), None)
        inputs, outputs = ([case.get(key) for case in source] for key in ("input", "output"))
    elif source is None:
        inputs, outputs = [], []
    else:
        raise ValueError(f"tests are a {type(source).__name__}: {shown(source)}")
    if function is not None:
        return Reason("call-based", f"calls {function}: there is no program to run")
    if not (isinstance(inputs, list) and isinstance(outputs, list) and len(inputs) == len(outputs)):
        raise ValueError("inputs and outputs are not two lists of the same length")
    return tuple(
        TestCase(str(number), _text(inp), _text(out))
        for number, (inp, out) in enumerate(zip(inputs, outputs, strict=True), start=1)
    )


def _function_of(value: Any) -> str | None:
    """Name of the function that an object says is called, or None."""
    if not isinstance(value, dict):
        return None
    named = value.get("fn_name") or value.get("func_name")
    called = any(value.get(key) in _CALL_TYPES for key in ("type", "testtype"))
    nested = _function_of(value.get("metadata"))
    return nested or (f"the function {named}" if named else "a function" if called else None)


def _parsed(value: Any) -> Any:
    """What a string of JSON holds, and any other value as it is."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.strip() else None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(f"{line}\n" for line in value)
    raise ValueError(f"an input or output is {shown(value)}, expected a string or a list of lines")


IMPORTER = Importer("input-output", frozenset(_TEST_FIELDS), _read_row)
