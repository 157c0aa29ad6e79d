"""CodeContests, as its rows are."""

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


def test_real_data_is_not_searched_for_elisions(write_rows, read):
    row = CONTEST | {"public_tests": {"input": ["...", "无"], "output": ["1\n...\n", ""]}}
    problems, skipped = read(write_rows(row))
    assert len(problems["1_A. Sum"].tests) == 4 and not skipped


SILENT = {"public_tests": {"input": ["1"], "output": [""]}, "generated_tests": {}}


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"input_file": "a.in"}, "file-io", "a.in"),
        ({"public_tests": None, "generated_tests": {}}, "no-tests", ""),
        ({"description": "Print any of them."}, "special-judge", ""),
        (SILENT, "no-output", ""),
        ({"description": None}, "unreadable", "'description'"),
        ({"public_tests": {"input": ["1"], "output": []}}, "unreadable", "equally long"),
        ({"public_tests": {"input": "1", "output": "1"}}, "unreadable", "'public_tests'"),
        ({"public_tests": [{"input": "1"}]}, "unreadable", "'public_tests'"),
        ({"time_limit": "soon"}, "unreadable", "time limit 'soon'"),
        ({"memory_limit_bytes": 256}, "unreadable", "memory limit of 1 KiB: none that a contest"),
    ],
)
def test_contests_that_cannot_be_judged_are_listed(write_rows, read, change, kind, words):
    path = write_rows(CONTEST, CONTEST | change, CONTEST | {"description": "b"})
    problems, [skipped] = read(path)
    assert list(problems) == ["1_A. Sum", "1_A. Sum-2"]
    assert (skipped.where, skipped.id, skipped.kind) == ("line 2", "1_A. Sum", kind)
    assert words in skipped.reason
    assert kind != "unreadable" or skipped.reason.startswith(f"{path}, line 2: ")
