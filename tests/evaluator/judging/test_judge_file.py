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

    def call(path, settings=JudgeSettings(), box=sandbox, out=tmp_path / "out", **options):  # noqa: B008
        return judge_completions(sum_suite, path, out, settings, box, **options)

    return call


@pytest.fixture
def completions(tmp_path):
    rows = [(f"S{k}", s, program(f"a + {k + s}")) for k in range(6) for s in (1, 0)]
    rows.append(("S0", 5, "I do not know."))
    return completions_of(tmp_path / "c.jsonl", rows)


def test_every_row_is_judged_by_one_judge_at_a_time(
    judge, sum_suite, completions, tmp_path, sandbox
):
    seen = []

    def progress(*event):
        seen.append(event)
        if len(seen) == 1:
            with pytest.raises(RunDirectoryError, match="another process is writing"):
                judge(completions)

    summary = judge(completions, progress=progress)
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


def test_torn_rows_and_those_that_do_not_hold_are_judged_again(judge, completions, tmp_path):
    judge(completions)
    path = tmp_path / "out" / "verdicts.jsonl"
    before = path.read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in before]
    rows[0] |= {"verdict": "OLE", "code_sha256": "0" * 64}  # by another extraction
    rows[1] |= {"verdict": "UKE"}
    rows[2]["tests"][1]["verdict"] = "UKE"  # a row may be WA and have one all the same
    changed = "".join(json.dumps(row) + "\n" for row in rows[:3])
    path.write_text("".join([changed, *before[3:8], before[8][:40]]))
    assert judge(completions).judged == 8
    assert stable(verdicts_of(tmp_path / "out")) == stable(json.loads(line) for line in before)


def test_kill_and_resume(judge, sum_suite, completions, tmp_path):
    """Killed after some rows, over and over; the rows are those of a run in one go."""
    judge(completions, out=tmp_path / "whole")
    out, path = tmp_path / "out", tmp_path / "out" / "verdicts.jsonl"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-m", "evaluator", "judge", "--suite", str(sum_suite)]
    argv += ["--completions", str(completions), "--out", str(out)]

    def there():
        return path.read_bytes().count(b"\n") if path.exists() else 0

    for wanted in (2, 6):
        with subprocess.Popen(argv, env=env) as process:
            while process.poll() is None and there() < wanted:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
    partial = there()
    assert partial >= 6
    assert judge(completions).judged == 13 - partial
    assert stable(verdicts_of(out)) == stable(verdicts_of(tmp_path / "whole"))


def test_other_settings_or_texts_need_another_folder(judge, sum_suite, completions, tmp_path):
    here, there = tmp_path / "testlib.h", tmp_path / "moved.h"
    for path in (here, there):  # it counts by its content
        path.write_text("// one\n")
        settings = JudgeSettings(testlib_path=path)
        judge(completions, settings)
    judge(completions, replace(settings, workers=1))
    there.write_text("// two\n")
    for changed in (settings, JudgeSettings(), JudgeSettings(testlib_path=here, standard="c++17")):
        with pytest.raises(RecordsError, match="another settings"):
            judge(completions, changed)
    other = completions_of(tmp_path / "d.jsonl", [("S0", 0, "changed")])
    with pytest.raises(RecordsError, match="'S0' was judged for another text.*use a new folder"):
        judge(other, JudgeSettings(testlib_path=here))
    lines = (sum_suite / "problems.jsonl").read_text().splitlines(keepends=True)
    (sum_suite / "problems.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(RecordsError, match="another suite_digest"):
        judge(other, JudgeSettings(testlib_path=here))


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("run.json", "{}", RunDirectoryError, r"has no judge\.json"),
        ("judge.json", "{", RecordsError, "judge.json"),
        ("judge.json", "[]", RecordsError, "judge.json"),
        ("judge.json", '{"sandbox": 1}', RecordsError, "judge.json"),
    ],
)
def test_a_folder_of_other_or_damaged_files_is_refused_and_left_alone(
    judge, completions, tmp_path, name, content, error, words
):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_text(content)
    with pytest.raises(error, match=words):
        judge(completions, out=folder)
    assert (folder / name).read_text() == content and not (folder / "verdicts.jsonl").exists()


def test_verdicts_that_no_judge_gives_are_refused(judge, completions, tmp_path):
    judge(completions)
    path = tmp_path / "out" / "verdicts.jsonl"
    path.write_text(path.read_text().replace('"AC"', '"great"', 1))
    with pytest.raises(RecordsError, match=r"verdicts\.jsonl.*'AC', 'PC'"):
        judge(completions)


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
