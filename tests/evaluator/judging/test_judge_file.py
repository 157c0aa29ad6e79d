"""Judging a file of completions: rows, resuming, bad files."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import RecordsError, RunDirectoryError
from evaluator.judging.judge_file import judge_completions
from evaluator.suites.suite import load_suite

STABLE = ("problem", "sample", "verdict", "score", "extraction", "completion_sha256")


def program(expression):
    code = (
        f'#include <cstdio>\nint main() {{ int a; scanf("%d", &a); printf("%d", {expression}); }}\n'
    )
    return f"答案:\n```cpp\n{code}```\n"


def completions_of(path, rows):
    lines = [{"problem": p, "sample": s, "completion": c} for p, s, c in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def verdicts_of(folder):
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


def stable(rows):
    return [{key: row[key] for key in STABLE} for row in rows]


@pytest.fixture
def completions(tmp_path):
    rows = [(f"S{k}", s, program(f"a + {k + s}")) for k in range(6) for s in (1, 0)]
    rows.append(("S0", 5, "I do not know."))
    return completions_of(tmp_path / "c.jsonl", rows)


def test_rows(sum_suite, completions, tmp_path, sandbox):
    seen = []
    summary = judge_completions(
        sum_suite,
        completions,
        tmp_path / "out",
        sandbox=sandbox,
        progress=lambda *x: seen.append(x),
    )
    rows = verdicts_of(tmp_path / "out")
    assert [(r["problem"], r["sample"]) for r in rows] == [
        *[(f"S{k}", s) for k in range(6) for s in (1, 0)],
        ("S0", 5),
    ]
    assert [r["verdict"] for r in rows] == ["WA", "AC"] * 6 + ["CE"]
    assert summary.counts == {"AC": 6, "CE": 1, "WA": 6}
    assert (summary.total, summary.judged, summary.without_code) == (13, 13, 1)
    assert [t["name"] for t in rows[1]["tests"]] == ["1", "20"]
    assert {"name", "verdict", "time_ms", "memory_kib", "detail"} <= rows[1]["tests"][0].keys()
    assert seen[0] == ("judge", 0, 13) and seen[-1] == ("judge", 13, 13)
    manifest = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert manifest["suite_digest"] == load_suite(sum_suite).digest
    assert manifest["sandbox"]["rung"] == sandbox.info.rung


def test_equal_programs_are_judged_once(sum_suite, tmp_path, sandbox):
    texts = [f"Version {n}:\n{program('a + 1')}" for n in range(3)]
    path = completions_of(tmp_path / "c.jsonl", [("S1", n, text) for n, text in enumerate(texts)])
    judge_completions(sum_suite, path, tmp_path / "out", sandbox=sandbox)
    first, *others = [row["tests"] for row in verdicts_of(tmp_path / "out")]
    assert others == [first, first]  # to the byte of memory and the millisecond


def test_torn_rows_and_uke_are_judged_again(sum_suite, completions, tmp_path, sandbox):
    judge_completions(sum_suite, completions, tmp_path / "out", sandbox=sandbox)
    path = tmp_path / "out" / "verdicts.jsonl"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    uke = json.dumps(json.loads(lines[1]) | {"verdict": "UKE"}) + "\n"
    row = json.loads(lines[2])
    row["tests"][1]["verdict"] = "UKE"  # a row may be WA and have one all the same
    path.write_text("".join([lines[0], uke, json.dumps(row), "\n", *lines[3:8], lines[8][:40]]))
    summary = judge_completions(sum_suite, completions, tmp_path / "out", sandbox=sandbox)
    assert summary.judged == 7
    assert stable(verdicts_of(tmp_path / "out")) == stable(json.loads(line) for line in lines)


def test_kill_and_resume(sum_suite, completions, tmp_path, sandbox):
    """Killed after some rows, over and over; the rows are those of a run in one go."""
    judge_completions(sum_suite, completions, tmp_path / "whole", sandbox=sandbox)
    out = tmp_path / "out"
    script = (
        "import sys\nfrom evaluator.judging.judge_file import judge_completions\n"
        "judge_completions(*sys.argv[1:])\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", script, str(sum_suite), str(completions), str(out)]
    for wanted in (2, 6):
        with subprocess.Popen(argv, env=env) as process:
            while process.poll() is None and size_of(out) < wanted:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    partial = size_of(out)
    assert partial >= 6
    summary = judge_completions(sum_suite, completions, out, sandbox=sandbox)
    assert summary.judged == 13 - partial
    assert stable(verdicts_of(out)) == stable(verdicts_of(tmp_path / "whole"))


def size_of(folder):
    path = folder / "verdicts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_other_settings_or_texts_need_another_folder(sum_suite, completions, tmp_path, sandbox):
    out = tmp_path / "out"
    judge_completions(sum_suite, completions, out, sandbox=sandbox)
    with pytest.raises(RecordsError, match="another settings"):
        judge_completions(sum_suite, completions, out, JudgeSettings(standard="c++17"), sandbox)
    judge_completions(sum_suite, completions, out, JudgeSettings(workers=1), sandbox)
    other = completions_of(tmp_path / "d.jsonl", [("S0", 0, "changed")])
    with pytest.raises(RecordsError, match="'S0' was judged for another text.*use a new folder"):
        judge_completions(sum_suite, other, out, sandbox=sandbox)
    with (sum_suite / "problems.jsonl").open() as stream:
        lines = stream.readlines()
    (sum_suite / "problems.jsonl").write_text("".join(lines[:-1]))
    first = completions_of(tmp_path / "e.jsonl", [("S0", 0, "x")])
    with pytest.raises(RecordsError, match="another suite_digest"):
        judge_completions(sum_suite, first, out, sandbox=sandbox)


@pytest.mark.parametrize("content", ["{", "[]", '{"sandbox": 1}'])
def test_a_damaged_description_of_a_folder_is_refused(
    sum_suite, completions, tmp_path, sandbox, content
):
    (tmp_path / "judge.json").write_text(content)
    with pytest.raises(RecordsError, match=r"judge\.json"):
        judge_completions(sum_suite, completions, tmp_path, sandbox=sandbox)


def test_testlib_counts_by_its_content(sum_suite, completions, tmp_path, sandbox):
    here, there = tmp_path / "testlib.h", tmp_path / "moved.h"
    for path in (here, there):
        path.write_text("// one\n")
    for path in (here, there):
        settings = JudgeSettings(testlib_path=path)
        judge_completions(sum_suite, completions, tmp_path / "out", settings, sandbox)
    there.write_text("// two\n")
    for changed in (settings, JudgeSettings()):
        with pytest.raises(RecordsError, match="another settings"):
            judge_completions(sum_suite, completions, tmp_path / "out", changed, sandbox)


def test_unsafe_counts_where_it_takes_another_rung(
    sum_suite, completions, tmp_path, sandbox, caplog
):
    allowed = JudgeSettings(unsafe=True)
    out = tmp_path / "out"
    judge_completions(sum_suite, completions, out, sandbox=sandbox)
    assert judge_completions(sum_suite, completions, out, allowed, sandbox).judged == 0
    assert not caplog.text
    other = "unshare" if sandbox.info.rung == "bwrap" else "bwrap"
    elsewhere = replace(sandbox, info=replace(sandbox.info, rung=other))
    judge_completions(sum_suite, completions, out, sandbox=elsewhere)
    assert "begun in sandbox" in caplog.text
    open_to_all = replace(sandbox, info=replace(sandbox.info, rung="unsafe"))
    with pytest.raises(RecordsError, match="now it is unsafe; use a new folder"):
        judge_completions(sum_suite, completions, out, allowed, open_to_all)


def test_more_completions_can_be_added(sum_suite, tmp_path, sandbox):
    rows = [("S1", 0, program("a + 1"))]
    path = completions_of(tmp_path / "c.jsonl", rows)
    judge_completions(sum_suite, path, tmp_path / "out", sandbox=sandbox)
    completions_of(path, [*rows, ("S1", 1, program("a + 2"))])
    summary = judge_completions(sum_suite, path, tmp_path / "out", sandbox=sandbox)
    assert (summary.judged, summary.counts) == (1, {"AC": 1, "WA": 1})


def test_two_judges_do_not_share_a_folder(sum_suite, completions, tmp_path, sandbox):
    def second(_, done, total):
        if done == 0:
            with pytest.raises(RunDirectoryError, match="another process is writing"):
                judge_completions(sum_suite, completions, tmp_path / "out", sandbox=sandbox)

    judge_completions(sum_suite, completions, tmp_path / "out", sandbox=sandbox, progress=second)


def test_rows_that_cannot_be_judged_are_listed_and_the_others_judged(sum_suite, tmp_path, sandbox):
    path = completions_of(tmp_path / "c.jsonl", [("S1", 0, program("a + 1"))])
    good = path.read_text()
    path.write_text(f"nonsense\n{good}")
    out = tmp_path / "out"
    summary = judge_completions(sum_suite, path, out, sandbox=sandbox)
    assert (summary.counts, [r.where for r in summary.not_judged]) == ({"AC": 1}, ["line 1"])
    [listed] = map(json.loads, (out / "not_judged.jsonl").read_text().splitlines())
    assert listed["where"] == "line 1" and "not JSON" in listed["reason"]
    path.write_text(good)
    assert judge_completions(sum_suite, path, out, sandbox=sandbox).not_judged == ()
    assert not (out / "not_judged.jsonl").exists()
