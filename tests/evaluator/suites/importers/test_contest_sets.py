"""CodeContests, APPS, TACO and DeepCoder, as their rows are."""

import json
import re

import pytest

CONTEST = {
    "name": "1_A. Sum",
    "description": "Print a + b.",
    "public_tests": {"input": ["1 2\n"], "output": [" 3\n"]},
    "private_tests": {"input": [], "output": []},
    "generated_tests": {"input": ["4 5\n", "6 7\n"], "output": ["9\n", "13\n"]},
    "source": 2,
    "difficulty": 7,
    "time_limit": {"seconds": 2, "nanos": 500_000_000},
    "memory_limit_bytes": 256_000_000,
    "input_file": "",
    "output_file": "",
}
APPS = {"problem_id": 7, "question": "Print a + b.", "starter_code": "", "url": "x"}
PAIRS = {"inputs": ["1 2\n", ["4", "5"]], "outputs": [" 3 \n", ["9"]]}
CASES = [{"input": "1 2\n", "output": "3\n", "type": "stdin_stdout", "fn_name": None}]


def test_contest_groups_names_and_limits(write_rows, read):
    problems, skipped = read(write_rows(CONTEST))
    problem = problems["1_A. Sum"]
    assert [(t.name, t.input, t.output, t.pretest) for t in problem.tests] == [
        ("public-1", "1 2\n", " 3\n", True),
        ("generated-1", "4 5\n", "9\n", False),
        ("generated-2", "6 7\n", "13\n", False),
    ]
    assert (problem.time_limit_ms, problem.memory_limit_kib) == (2500, 250_000)
    assert problem.statement == CONTEST["description"] and not skipped


def test_upstreams_cut_of_the_contests(write_rows, read):
    """It keeps neither names nor limits; groups may be missing or null."""
    row = {key: CONTEST[key] for key in ("description", "public_tests")} | {"private_tests": None}
    problems, _ = read(write_rows(row, row | {"description": "b"}))
    assert list(problems) == ["1", "2"]
    assert problems["1"].time_limit_ms == 1000


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"input_file": "a.in"}, "file-io"),
        ({"public_tests": None, "generated_tests": {}}, "no-tests"),
        ({"description": "This is an interactive problem."}, "interactive"),
        ({"description": "Print any of them."}, "special-judge"),
        ({"public_tests": {"input": ["1"], "output": [""]}, "generated_tests": {}}, "no-output"),
    ],
)
def test_contests_that_cannot_be_judged(write_rows, read, change, kind):
    problems, [skipped] = read(write_rows(CONTEST | change, CONTEST | {"name": "b"}))
    assert list(problems) == ["b"] and skipped.kind == kind


def test_real_data_is_not_searched_for_elisions(write_rows, read):
    row = CONTEST | {"public_tests": {"input": ["...", "无"], "output": ["1\n...\n", ""]}}
    problems, skipped = read(write_rows(row))
    assert len(problems["1_A. Sum"].tests) == 4 and not skipped


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"description": None}, "'description'"),
        ({"public_tests": {"input": ["1"], "output": []}}, "'public_tests'.*equally long"),
        ({"public_tests": {"input": [1], "output": ["1"]}}, "'public_tests'"),
        ({"public_tests": {"input": "1", "output": "1"}}, "'public_tests'"),
        ({"public_tests": ["1"]}, "'public_tests'"),
        ({"public_tests": [{"input": "1"}]}, "'public_tests'"),
        ({"time_limit": "soon"}, "time limit 'soon'"),
        ({"memory_limit_bytes": True}, "memory limit True"),
        ({"memory_limit_bytes": 256}, "memory limit of 1 KiB: none that a contest has"),
        ({"time_limit": {"seconds": 10**400}}, "time limit .*: expected seconds"),
        ({"time_limit": {"seconds": 1000, "nanos": 0}}, "time limit of 1000000 ms"),
    ],
)
def test_broken_contests_are_listed(write_rows, read, change, words):
    path = write_rows(CONTEST, CONTEST | change, CONTEST | {"description": "b"})
    problems, [skipped] = read(path)
    assert list(problems) == ["1_A. Sum", "1_A. Sum-2"]
    assert (skipped.where, skipped.id, skipped.kind) == ("line 2", "1_A. Sum", "unreadable")
    assert re.fullmatch(f"{path}, line 2: .*{words}.*", skipped.reason)


@pytest.mark.parametrize("field", ["input_output", "tests"])
@pytest.mark.parametrize("pack", [json.dumps, lambda tests: tests])
def test_tests_as_text_or_object(write_rows, read, field, pack):
    problems, skipped = read(
        write_rows(APPS | {field: pack(PAIRS)}, APPS | {"problem_id": "b", field: pack(CASES)})
    )
    assert not skipped
    assert [(t.name, t.input, t.output) for t in problems["7"].tests] == [
        ("1", "1 2\n", " 3 \n"),
        ("2", "4\n5\n", "9\n"),
    ]
    assert [(t.input, t.output) for t in problems["b"].tests] == [("1 2\n", "3\n")]


def test_fields_of_the_several_sets(write_rows, read):
    taco = {"question": "q", "input_output": PAIRS, "name": None, "time_limit": "2.0 seconds"}
    taco |= {"memory_limit": "256.0 megabytes"}
    deepcoder = {"problem": "d", "tests": json.dumps(CASES), "metadata": "{}"}
    problems, _ = read(write_rows(taco, deepcoder))
    assert list(problems) == ["1", "2"]
    assert (problems["1"].time_limit_ms, problems["1"].memory_limit_kib) == (2000, 262_144)
    assert problems["2"].statement == "d"


CALLED = [{"input": "[1]", "output": "2", "testtype": "functional"}]


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"input_output": PAIRS | {"fn_name": "solve"}}, "call-based", "the function solve"),
        ({"input_output": json.dumps({"fn_name": "f"})}, "call-based", "the function f"),
        ({"input_output": [CASES[0] | {"fn_name": "f"}]}, "call-based", "the function f"),
        ({"input_output": CALLED}, "call-based", "a function"),
        ({"input_output": CASES, "metadata": '{"func_name": "f"}'}, "call-based", "f"),
        ({"input_output": [CASES[0] | {"metadata": {"func_name": "f"}}]}, "call-based", "f"),
        ({"input_output": ""}, "no-tests", ""),
        ({"input_output": "null"}, "no-tests", ""),
        ({"input_output": {"inputs": [], "outputs": []}}, "no-tests", ""),
        ({"input_output": {"inputs": ["1"], "outputs": []}}, "unreadable", "same length"),
        ({"input_output": {"inputs": [[1]], "outputs": [[2]]}}, "unreadable", "[1]"),
        ({"input_output": [{"input": "1"}]}, "unreadable", "None"),
        ({"input_output": "{"}, "unreadable", "Expecting"),
        ({"input_output": "[" * 100_000}, "unreadable", "recursion"),
        ({"input_output": '{"inputs": [' + "9" * 5000 + "]}"}, "unreadable", "digits"),
        ({"input_output": 5}, "unreadable", "int"),
        ({"input_output": PAIRS, "time_limit": "soon"}, "unreadable", "time limit 'soon'"),
    ],
)
def test_entries_that_cannot_be_judged(write_rows, read, change, kind, reason):
    good = APPS | {"problem_id": 8, "input_output": PAIRS}
    problems, [skipped] = read(write_rows(APPS | change, good))
    assert list(problems) == ["8"]
    assert (skipped.id, skipped.kind) == ("7", kind) and reason in skipped.reason


def test_an_entry_without_a_statement_is_listed(write_rows, read):
    problems, [skipped] = read(write_rows({"input_output": PAIRS}, APPS | {"tests": PAIRS}))
    assert list(problems) == ["7"] and skipped.kind == "unreadable"
    assert "line 1: expected a string in one of question, problem" in skipped.reason


def test_tests_may_be_a_list_of_pairs(write_rows, read):
    pairs = [{"input": "1 2\n", "output": "3\n"}]
    problems, _ = read(write_rows(CONTEST | {"public_tests": pairs, "generated_tests": None}))
    assert [(t.input, t.output) for t in problems["1_A. Sum"].tests] == [("1 2\n", "3\n")]
