"""APPS, TACO and DeepCoder, as their rows are."""

import json

import pytest

APPS = {"problem_id": 7, "question": "Print a + b.", "starter_code": "", "url": "x"}
PAIRS = {"inputs": ["1 2\n", ["4", "5"]], "outputs": [" 3 \n", ["9"]]}
CASES = [{"input": "1 2\n", "output": "3\n", "type": "stdin_stdout", "fn_name": None}]


@pytest.mark.parametrize("field", ["input_output", "tests"])
@pytest.mark.parametrize("pack", [json.dumps, lambda tests: tests])
def test_tests_as_text_or_object(write_rows, read, field, pack):
    problems, skipped = read(
        write_rows(APPS | {field: pack(PAIRS)}, APPS | {"problem_id": "b", field: pack(CASES)})
    )
    assert not skipped
    found = [(t.name, t.input, t.output) for t in problems["7"].tests]
    assert found == [("1", "1 2\n", " 3 \n"), ("2", "4\n5\n", "9\n")]
    assert [(t.input, t.output) for t in problems["b"].tests] == [("1 2\n", "3\n")]


def test_fields_of_the_several_sets(write_rows, read):
    taco = {"question": "q", "input_output": PAIRS, "name": None, "time_limit": "2.0 seconds"}
    taco |= {"memory_limit": "256.0 megabytes"}
    deepcoder = {"problem": "d", "tests": json.dumps(CASES), "metadata": "{}"}
    problems, _ = read(write_rows(taco, deepcoder))
    assert list(problems) == ["1", "2"]
    assert (problems["1"].time_limit_ms, problems["1"].memory_limit_kib) == (2000, 262_144)
    assert problems["2"].statement == "d"


@pytest.mark.parametrize("field", ["id", "problem_id", "question_id", "task_id"])
@pytest.mark.parametrize("kind", [int, float], ids=["as they are", "floats as pandas makes them"])
def test_ids_begin_at_zero(write_rows, read, field, kind):
    row = {"input_output": PAIRS, "name": "", "id": None}
    problems, _ = read(write_rows(*(row | {"question": f"q{k}", field: kind(k)} for k in range(2))))
    assert {name: p.statement for name, p in problems.items()} == {"0": "q0", "1": "q1"}


CALLED = [{"input": "[1]", "output": "2", "testtype": "functional"}]


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"input_output": PAIRS | {"fn_name": "solve"}}, "call-based", "the function solve"),
        ({"input_output": [CASES[0] | {"fn_name": "f"}]}, "call-based", "the function f"),
        ({"input_output": CALLED}, "call-based", "a function"),
        ({"input_output": CASES, "metadata": '{"func_name": "f"}'}, "call-based", "f"),
        ({"input_output": [CASES[0] | {"metadata": {"func_name": "f"}}]}, "call-based", "f"),
        ({"input_output": ""}, "no-tests", ""),
        ({"input_output": {"inputs": [], "outputs": []}}, "no-tests", ""),
        ({"input_output": {"inputs": ["1"], "outputs": []}}, "unreadable", "same length"),
        ({"input_output": {"inputs": [[1]], "outputs": [[2]]}}, "unreadable", "[1]"),
        ({"input_output": "{"}, "unreadable", "Expecting"),
        ({"input_output": "[" * 100_000}, "unreadable", "recursion"),
        ({"input_output": '{"inputs": [' + "9" * 5000 + "]}"}, "unreadable", "digits"),
        ({"input_output": 5}, "unreadable", "int"),
        ({"question": None}, "unreadable", "expected a string in one of question, problem"),
        ({"input_output": PAIRS, "time_limit": "soon"}, "unreadable", "time limit 'soon'"),
    ],
)
def test_entries_that_cannot_be_judged(write_rows, read, change, kind, reason):
    good = APPS | {"problem_id": 8, "input_output": PAIRS}
    problems, [skipped] = read(write_rows(APPS | change, good))
    assert list(problems) == ["8"]
    assert (skipped.id, skipped.kind) == ("7", kind) and reason in skipped.reason
