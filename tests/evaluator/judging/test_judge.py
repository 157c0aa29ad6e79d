"""Judging programs: verdicts, sharing, order, stopping, and a loaded machine."""

import contextlib
import itertools
import os
import resource
import threading
import time
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGSTOP

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import ConfigError, SandboxError
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.suites.problem import Problem, TestCase
from tests.evaluator.judging.outside import (
    ChangedSandbox,
    burn,
    command_line,
    descendants,
    signalled,
)

ADD = '#include <cstdio>\nint main() { int a, b; scanf("%d%d", &a, &b); printf("%d\\n", a + b); }\n'
PAIRS = ((1, 2), (30, 4), (-5, 5))


def add_problem(**fields):
    tests = tuple(TestCase(f"t{a}", f"{a} {b}\n", f"{a + b}\n") for a, b in PAIRS)
    return Problem("add", "", tests, **fields)


def ok_problem(**fields):
    return Problem("p", "", (TestCase("1", "", "ok"),), **fields)


def judge(sandbox, problem, *codes, **settings):
    jobs = [JudgeJob((str(n),), problem, c, "other_language") for n, c in enumerate(codes)]
    verdicts = dict(judge_jobs(jobs, JudgeSettings(**settings), sandbox))
    return [verdicts[(str(n),)] for n in range(len(codes))]


def test_programs_get_the_verdicts_of_their_tests(sandbox):
    wrong = ADD.replace("a + b)", "a < 0 ? 1 : a + b)")
    crash = ADD.replace("a + b);", "a + b); return a == 30;")
    killed = "#include <csignal>\nint main() { raise(SIGKILL); }"
    found = judge(sandbox, add_problem(), ADD, wrong, crash, killed, None, "int main( {")
    right, first, second, third, none, broken = found
    assert (right.verdict, right.score) == ("AC", 100)
    assert [test.name for test in right.tests] == ["t1", "t30", "t-5"]
    for test in right.tests:
        assert (test.exit_code, test.signal) == (0, None)
        assert 0 <= test.time_ms < 200 and 500 < test.memory_kib < 16 << 10
    assert (first.verdict, [t.verdict for t in first.tests]) == ("WA", ["AC", "AC", "WA"])
    assert first.tests[2].detail == "line 1: expected '0', found '1'"
    assert first.score == pytest.approx(200 / 3)
    assert [t.verdict for t in second.tests] == ["AC", "RE", "AC"]
    assert (third.verdict, third.tests[0].signal) == ("RE", SIGKILL)
    assert (broken.verdict, broken.tests) == ("CE", ()) and "error" in broken.compile_message
    assert (none.verdict, none.detail) == ("CE", "no code was found (other_language)")


def test_limits_of_a_single_test_hold(sandbox):
    tests = (TestCase("short", "", "ok", time_limit_ms=100), TestCase("long", "", "ok"))
    [verdict] = judge(sandbox, Problem("p", "", tests, time_limit_ms=1500), burn(300))
    assert [test.verdict for test in verdict.tests] == ["TLE", "AC"]
    tests = (TestCase("small", "", "ok", memory_limit_kib=8 << 10), TestCase("large", "", "ok"))
    touch = "static volatile char a[16 << 20];\n#include <cstdio>\nint main() {\n"
    touch += 'for (auto& c : a) c = 1;\nputs("ok"); }'
    [verdict] = judge(sandbox, Problem("p", "", tests), touch)
    assert [test.verdict for test in verdict.tests] == ["MLE", "AC"]


def test_standard_and_online_judge(sandbox):
    code = """
    #include <cmath>
    #include <cstdio>
    #ifndef ONLINE_JUDGE
    #error no macro
    #endif
    int main() { std::printf("%ld %.0f", __cplusplus, std::sqrt(4.0)); }"""
    problem = Problem("p", "", (TestCase("1", "", "201402 2"),))
    assert judge(sandbox, problem, code)[0].verdict == "AC"
    assert judge(sandbox, problem, code, standard="c++17")[0].verdict == "WA"


@pytest.mark.parametrize(
    "wrong", [{"compile_flags": ("-02",)}, {"link_flags": ("-lnosuch",)}], ids=str
)
def test_flags_that_fail_every_program_are_refused(sandbox, wrong):
    with pytest.raises(ConfigError, match=r"not even an empty program.*(-02|-lnosuch)"):
        judge(sandbox, add_problem(), ADD, **wrong)


def test_no_more_workers_than_open_files_allow(sandbox):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len([*Path("/proc/self/fd").iterdir()])
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 60, before[1]))
    try:
        verdicts = judge(sandbox, add_problem(), *[ADD] * 12, workers=12)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [verdict.verdict for verdict in verdicts] == ["AC"] * 12


@pytest.mark.parametrize("way", ["std::{};", "FILE* f = {}; fflush(f);"])
def test_freopen_runs_as_written_unless_it_is_removed(sandbox, way):
    call = way.format('freopen("x.out", "w", stdout)')
    code = f'#include <cstdio>\nint main() {{ {call} puts("ok"); }}\n'
    assert judge(sandbox, ok_problem(), code)[0].verdict == "WA"
    assert judge(sandbox, ok_problem(), code, strip_freopen=True)[0].verdict == "AC"


def test_large_input_and_output(sandbox):
    text = "".join(f"{n}\n" for n in range(400_000))
    loop = 'int x; while (scanf("%d", &x) == 1) printf("%d\\n", x);'
    code = f"#include <cstdio>\nint main() {{ {loop} }}"
    problem = Problem("p", "", (TestCase("1", text, text),))
    assert judge(sandbox, problem, code, output_kib=1)[0].verdict == "AC"  # the answer is longer


def test_jobs_are_taken_as_workers_get_free(sandbox):
    taken = itertools.count()
    problem = add_problem()

    def endless():
        while True:
            yield JudgeJob(("k",), problem, f"{ADD}// {next(taken)}\n")

    with contextlib.closing(judge_jobs(endless(), JudgeSettings(workers=2), sandbox)) as verdicts:
        assert next(verdicts)[1].verdict == "AC"
    assert next(taken) <= 8


def test_closing_ends_what_runs(sandbox):
    problem = Problem("p", "", (TestCase("1", "", ""),), time_limit_ms=60_000)
    loop = JudgeJob(("loop",), problem, "int main() {for(;;);}")
    jobs = [loop, JudgeJob(("none",), problem, None), loop]
    verdicts = judge_jobs(jobs, JudgeSettings(workers=1), sandbox)
    assert next(verdicts)[0] == ("none",)
    before = threading.active_count()
    time.sleep(1.5)
    start = time.monotonic()
    verdicts.close()
    assert time.monotonic() - start < 10
    assert threading.active_count() < before
    assert not [pid for pid in descendants(os.getpid()) if "/proc/self/fd/" in command_line(pid)]


def test_failing_sandbox_is_tried_twice_and_then_uke(sandbox, caplog):
    """The first test fails twice, the second once."""

    def change(command, report, number):
        if number in (1, 2, 3):  # 0 is the compilation
            raise SandboxError("broken")
        return report

    [verdict] = judge(ChangedSandbox(sandbox, change), add_problem(), ADD, workers=1)
    assert [test.verdict for test in verdict.tests] == ["UKE", "AC", "AC"]
    assert (verdict.verdict, verdict.detail) == ("UKE", "broken")
    assert "once more" in caplog.text


def test_second_run_of_a_killed_program_counts(sandbox):
    def slow_at_first(command, report, number):
        return replace(report, reason="cpu", cpu_ms=139.0) if number == 1 else report

    problem = ok_problem(time_limit_ms=100)
    assert judge(ChangedSandbox(sandbox, slow_at_first), problem, burn(1))[0].verdict == "AC"


def test_program_killed_from_outside_runs_again(sandbox):
    with signalled("program", SIGKILL) as hit:
        [verdict] = judge(sandbox, ok_problem(), burn(300))
    assert hit and verdict.verdict == "AC"


@pytest.mark.parametrize(
    ("part", "number"), [("cc1plus", SIGKILL), ("g++", SIGKILL), ("cc1plus", SIGSTOP)]
)
def test_compiler_ended_or_stopped_from_outside_compiles_again(sandbox, part, number):
    with signalled(part, number) as hit:
        [verdict] = judge(sandbox, add_problem(), ADD, compile_wall_ms=3000)
    assert hit and verdict.verdict == "AC"


def test_source_cannot_feign_a_killed_compiler(sandbox):
    said = "g++: fatal error: Killed signal terminated program cc1plus"
    [verdict] = judge(sandbox, add_problem(), f'static_assert(false, "\\n{said}\\n");')
    assert verdict.verdict == "CE" and f"\n{said}\n" in verdict.compile_message


def test_loaded_machine_changes_no_verdict(sandbox):
    """Ten busy processes a core: programs get a fraction of the wall time and all of their CPU.

    Each is a session of its own, because the scheduler shares the machine among sessions first.
    """
    busy = ["sh", "-c", "while :; do :; done"]
    cores = len(os.sched_getaffinity(0))
    hogs = [os.posix_spawn("/bin/sh", busy, {}, setsid=True) for _ in range(10 * cores)]
    try:
        codes = [f"// {n}\n{burn(200)}" for n in range(2)]
        verdicts = judge(sandbox, ok_problem(time_limit_ms=250), *codes)
    finally:
        for pid in hogs:
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
    assert [verdict.verdict for verdict in verdicts] == ["AC"] * 2
