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
    main = f'int a; scanf("%d", &a); printf("%d", {expression});'
    return f"答案:\n```cpp\n#include <cstdio>\nint main() {{ {main} }}\n```\n"


def completions_of(path, rows):
    lines = [{"problem": p, "sample": s, "completion": c} for p, s, c in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def verdicts_of(folder):
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


def stable(rows):
    return [{key: row[key] for key in STABLE} for row in rows]


@pytest.fixture
def judge(sum_suite, sandbox, tmp_path):
    """Judge a file of completions on the suite of sums, into a folder."""

    def call(path, settings=None, box=sandbox, out=tmp_path / "out", **options):
        return judge_completions(sum_suite, path, out, settings, box, **options)

    return call


@pytest.fixture
def completions(tmp_path):
    rows = [(f"S{k}", s, program(f"a + {k + s}")) for k in range(6) for s in (1, 0)]
    rows.append(("S0", 5, "I do not know."))
    return completions_of(tmp_path / "c.jsonl", rows)


def test_rows(judge, sum_suite, completions, tmp_path, sandbox):
    seen = []
    summary = judge(completions, progress=lambda *x: seen.append(x))
    rows = verdicts_of(tmp_path / "out")
    keys = [*((f"S{k}", s) for k in range(6) for s in (1, 0)), ("S0", 5)]
    assert [(r["problem"], r["sample"]) for r in rows] == keys
    assert [r["verdict"] for r in rows] == ["WA", "AC"] * 6 + ["CE"]
    assert summary.counts == {"AC": 6, "CE": 1, "WA": 6}
    assert (summary.total, summary.judged, summary.without_code) == (13, 13, 1)
    assert [t["name"] for t in rows[1]["tests"]] == ["1", "20"]
    assert {"name", "verdict", "time_ms", "memory_kib", "detail"} <= rows[1]["tests"][0].keys()
    assert seen[0] == ("judge", 0, 13) and seen[-1] == ("judge", 13, 13)
    manifest = json.loads((tmp_path / "out" / "judge.json").read_text())
    assert manifest["suite_digest"] == load_suite(sum_suite).digest
    assert manifest["sandbox"]["rung"] == sandbox.info.rung


def test_torn_rows_and_uke_are_judged_again(judge, completions, tmp_path):
    judge(completions)
    path = tmp_path / "out" / "verdicts.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    uke = json.dumps(json.loads(lines[1]) | {"verdict": "UKE"}) + "\n"
    row = json.loads(lines[2])
    row["tests"][1]["verdict"] = "UKE"  # a row may be WA and have one all the same
    path.write_text("".join([lines[0], uke, json.dumps(row), "\n", *lines[3:8], lines[8][:40]]))
    assert judge(completions).judged == 7
    assert stable(verdicts_of(tmp_path / "out")) == stable(json.loads(line) for line in lines)


def test_kill_and_resume(judge, sum_suite, completions, tmp_path):
    """Killed after some rows, over and over; the rows are those of a run in one go."""
    judge(completions, out=tmp_path / "whole")
    out = tmp_path / "out"
    script = "import sys\nfrom evaluator.judging.judge_file import judge_completions as judge\n"
    script += "judge(*sys.argv[1:])\n"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", script, str(sum_suite), str(completions), str(out)]
    for wanted in (2, 6):
        with subprocess.Popen(argv, env=env) as process:
            while process.poll() is None and size_of(out) < wanted:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    partial = size_of(out)
    assert partial >= 6
    assert judge(completions).judged == 13 - partial
    assert stable(verdicts_of(out)) == stable(verdicts_of(tmp_path / "whole"))


def size_of(folder):
    path = folder / "verdicts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_other_settings_or_texts_need_another_folder(judge, sum_suite, completions, tmp_path):
    judge(completions)
    with pytest.raises(RecordsError, match="another settings"):
        judge(completions, JudgeSettings(standard="c++17"))
    judge(completions, JudgeSettings(workers=1))
    other = completions_of(tmp_path / "d.jsonl", [("S0", 0, "changed")])
    with pytest.raises(RecordsError, match="'S0' was judged for another text.*use a new folder"):
        judge(other)
    lines = (sum_suite / "problems.jsonl").read_text().splitlines(keepends=True)
    (sum_suite / "problems.jsonl").write_text("".join(lines[:-1]))
    first = completions_of(tmp_path / "e.jsonl", [("S0", 0, "x")])
    with pytest.raises(RecordsError, match="another suite_digest"):
        judge(first)


def test_a_verdict_on_another_program_of_the_same_text_is_made_again(judge, completions, tmp_path):
    judge(completions)
    path = tmp_path / "out" / "verdicts.jsonl"
    first, *others = verdicts_of(tmp_path / "out")
    other = first | {"verdict": "OLE", "code_sha256": "0" * 64}  # by another extraction
    path.write_text("".join(json.dumps(row) + "\n" for row in (other, *others)))
    assert judge(completions).judged == 1
    assert stable(verdicts_of(tmp_path / "out")) == stable([first, *others])


def test_a_folder_of_other_files_is_refused_and_left_alone(judge, completions, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match=r"has no judge\.json"):
        judge(completions, out=tmp_path)
    assert not (tmp_path / "judge.json").exists()


def test_verdicts_that_no_judge_gives_are_refused(judge, completions, tmp_path):
    judge(completions)
    path = tmp_path / "out" / "verdicts.jsonl"
    path.write_text(path.read_text().replace('"AC"', '"great"', 1))
    with pytest.raises(RecordsError, match=r"verdicts\.jsonl.*'AC', 'PC'"):
        judge(completions)


@pytest.mark.parametrize("content", ["{", "[]", '{"sandbox": 1}'])
def test_a_damaged_description_of_a_folder_is_refused(judge, completions, tmp_path, content):
    (tmp_path / "judge.json").write_text(content)
    with pytest.raises(RecordsError, match=r"judge\.json"):
        judge(completions, out=tmp_path)


def test_testlib_counts_by_its_content(judge, completions, tmp_path):
    here, there = tmp_path / "testlib.h", tmp_path / "moved.h"
    for path in (here, there):
        path.write_text("// one\n")
        settings = JudgeSettings(testlib_path=path)
        judge(completions, settings)
    there.write_text("// two\n")
    for changed in (settings, JudgeSettings()):
        with pytest.raises(RecordsError, match="another settings"):
            judge(completions, changed)


def test_unsafe_counts_where_it_takes_another_rung(judge, completions, sandbox, caplog):
    allowed = JudgeSettings(unsafe=True)
    judge(completions)
    assert judge(completions, allowed).judged == 0
    assert not caplog.text
    other = "unshare" if sandbox.info.rung == "bwrap" else "bwrap"
    elsewhere = replace(sandbox, info=replace(sandbox.info, rung=other))
    judge(completions, box=elsewhere)
    assert "begun in sandbox" in caplog.text
    open_to_all = replace(sandbox, info=replace(sandbox.info, rung="unsafe"))
    with pytest.raises(RecordsError, match="now it is unsafe; use a new folder"):
        judge(completions, allowed, open_to_all)


def test_two_judges_do_not_share_a_folder(judge, completions):
    def second(_, done, total):
        if done == 0:
            with pytest.raises(RunDirectoryError, match="another process is writing"):
                judge(completions)

    judge(completions, progress=second)


def test_rows_that_cannot_be_judged_are_listed_and_the_others_judged(judge, tmp_path):
    path = completions_of(tmp_path / "c.jsonl", [("S1", 0, program("a + 1"))])
    good = path.read_text()
    path.write_text(f"nonsense\n{good}")
    summary, out = judge(path), tmp_path / "out"
    assert (summary.counts, [r.where for r in summary.not_judged]) == ({"AC": 1}, ["line 1"])
    [listed] = map(json.loads, (out / "not_judged.jsonl").read_text().splitlines())
    assert listed["where"] == "line 1" and "not JSON" in listed["reason"]
    path.write_text(good)
    assert judge(path).not_judged == ()
    assert not (out / "not_judged.jsonl").exists()
