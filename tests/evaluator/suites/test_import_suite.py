"""An import as a whole: what is written, what it says, and that it is there whole or not at all."""

import json

import pytest

from evaluator.errors import SuiteError, SuiteOutputError
from evaluator.suites.import_suite import import_suite, report_lines
from evaluator.suites.importers.drafts_to_problems import DefaultLimits
from evaluator.suites.problem import Checker, Problem, TestCase, to_text
from evaluator.suites.suite import load_suite, problem_line, read_problems

CASES = [{"input": " 1\r\n", "output": "  2 \n\n"}]


def row(number, cases=CASES):
    return {"prompt": f"Solve:\n# P{number} 题 x", "test_cases": cases}


@pytest.fixture
def source(write_rows):
    """Three problems, of which one stands twice, one has a half and one nothing to judge."""
    half = [*CASES, {"input": "2", "output": "..."}]
    return write_rows(row(1), row(1), row(2, half), row(3, []))


def test_what_is_written(source, tmp_path):
    out = tmp_path / "deep" / "suite"
    report = import_suite(source, out, name="mine", limits=DefaultLimits(2500, 65536))
    assert (report.problems, report.tests, report.form) == (2, 2, "upstream")
    assert report.skipped == {"duplicate": 1, "no-tests": 1}
    assert report.tests_left_out == {"elided": 1}
    suite = load_suite(out)
    assert suite.name == "mine" and suite.digest == report.digest
    assert [p.id for p in suite.problems] == ["P1", "P2"]
    problem = suite.problems[0]
    assert problem.tests == (TestCase("1", " 1\r\n", "  2 \n\n"),)
    assert problem.limits(problem.tests[0]) == (2500, 65536)
    assert problem.prompt == row(1)["prompt"] and problem.source == "rows0.jsonl, line 1"
    skipped = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    expected = [("line 2", "P1", None, "duplicate"), ("line 3", "P2", "2", "elided")]
    expected.append(("line 4", "P3", None, "no-tests"))
    assert [(s["where"], s["id"], s["test"], s["kind"]) for s in skipped] == expected
    names = {"suite.json", "problems.jsonl", "skipped.jsonl", "notes.jsonl"}
    assert {path.name for path in out.iterdir()} == names
    assert list(out.parent.iterdir()) == [out]
    manifest = json.loads((out / "suite.json").read_text())
    assert manifest["source"] == {"name": "rows0.jsonl", "form": "upstream"}
    assert manifest["default_limits"] == {"time_ms": 2500, "memory_kib": 65536}


def test_what_was_assumed_is_listed(write_rows, tmp_path):
    plain = {"question": "Print a + b.", "tests": CASES}
    path = write_rows(
        plain | {"id": "A", "time_limit": 1000, "memory_limit": 256},
        plain | {"id": "B", "question": "Print it, an error of at most 1e-6 is allowed."},
        plain | {"id": "C", "time_limit": 1e9},
        plain | {"id": "D", "question": "Print 1"},
    )
    report = import_suite(path, tmp_path / "s")
    assert report.notes == {"assumed": 3} and report.skipped == {"unreadable": 1}
    notes = [json.loads(line) for line in (tmp_path / "s" / "notes.jsonl").read_text().splitlines()]
    assert [(n["where"], n["id"]) for n in notes] == [("line 1", "A")] * 2 + [("line 2", "B")]
    assert [n["detail"] for n in notes] == [
        "the time limit, 1000, has no unit; taken as ms",
        "the memory limit, 256, has no unit; taken as MiB",
        "outputs are compared as numbers, absolute or relative error up to 1e-06, as the statement "
        "says",
    ]
    lines = list(report_lines(report))
    assert "To know: assumed 3" in lines and "Skipped: unreadable 1" in lines
    assert any(line.startswith(f"  line 3: unreadable: {path}, line 3: ") for line in lines)
    assert load_suite(path).digest == report.digest


def test_an_existing_target_stays_as_it_is(source, tmp_path, write_rows):
    out = tmp_path / "suite"
    import_suite(source, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(SuiteOutputError, match="suite: exists; .*--overwrite"):
        import_suite(source, out)
    bad = write_rows(row(3, []))
    for target in (out, tmp_path / "new"):
        with pytest.raises(SuiteError, match="no problem that can be judged .line 1: no tests"):
            import_suite(bad, target, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    report = import_suite(write_rows(row(9)), out, overwrite=True)
    assert [p.id for p in load_suite(out).problems] == ["P9"] and report.skipped == {}
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".jsonl" and path != out]


def test_only_suites_are_replaced(source, tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    import_suite(source, precious, overwrite=True)  # nothing in it yet
    (precious / "suite.json").unlink()
    with pytest.raises(SuiteOutputError, match="thesis: is no suite, so it is not replaced"):
        import_suite(source, precious, overwrite=True)
    assert (precious / "problems.jsonl").exists()
    with pytest.raises(SuiteOutputError, match="is no directory"):
        import_suite(source, source, overwrite=True)
    with pytest.raises(SuiteOutputError, match="holds the source itself"):
        import_suite(source, tmp_path, overwrite=True)
    with pytest.raises(SuiteOutputError, match="cannot be written"):
        import_suite(source, source / "below")


def test_an_import_that_is_stopped_leaves_the_old_suite(source, tmp_path, write_rows, monkeypatch):
    """The old suite is whole while the new one is written: no signal can find it otherwise."""
    out = tmp_path / "suite"
    digest = import_suite(source, out).digest

    def stop(problem):
        assert load_suite(out).digest == digest
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluator.suites.import_suite.problem_line", stop)
    before = sorted(tmp_path.iterdir())
    new = write_rows(row(9))
    with pytest.raises(KeyboardInterrupt):
        import_suite(new, out, overwrite=True)
    assert sorted(tmp_path.iterdir()) == sorted([*before, new])
    assert load_suite(out).digest == digest


@pytest.mark.parametrize(
    "checker",
    [
        *[Checker(), Checker("tokens"), Checker("caseless"), Checker("float", 1e-9)],
        *[Checker("float", error="relative"), Checker("special", source="int main(){}")],
    ],
)
def test_a_problem_is_read_back_as_it_was_written(tmp_path, checker):
    odd = ('a é题\n\r\t "\\\0\u2028', to_text(b"\xff\r\n\0"), "", " \n")
    tests = tuple(TestCase(str(n), text, text[::-1]) for n, text in enumerate(odd))
    tests += (TestCase("all", "1", "2", 2.5, 0, 50, 1024, True),)
    full = Problem("a", odd[0], tests, 1, 2048, checker, odd[0], "f", "zh", "here", odd[0])
    for problem in (full, Problem("b", "", tests[:1], checker=checker)):
        (tmp_path / "problems.jsonl").write_bytes(problem_line(problem))
        assert list(read_problems(tmp_path)) == [problem]


def test_datasets_reads_what_is_written(source, tmp_path):
    datasets = pytest.importorskip("datasets")
    import_suite(source, tmp_path / "suite")
    rows = datasets.Dataset.from_json(
        str(tmp_path / "suite" / "problems.jsonl"), cache_dir=str(tmp_path / "cache")
    )
    assert rows["id"] == ["P1", "P2"]
    assert rows[0]["tests"][0]["output"] == "  2 \n\n"
