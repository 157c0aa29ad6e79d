"""The memory of a program is its own, whatever the judge holds."""

from pathlib import Path

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import SandboxUnavailableError
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.sandbox.sandbox import probe_sandbox
from evaluator.suites.problem import Problem, TestCase

TOUCH = """
#include <cstdio>
static volatile char a[20 << 20];
int main() {
    for (int i = 0; i < 20 << 20; i += 4096) a[i] = 1;
    puts("ok");
}"""


def rungs():
    for name in ("bwrap", "unshare"):
        try:
            yield probe_sandbox(only=name)
        except SandboxUnavailableError:
            continue


def memory_kib(sandbox):
    problem = Problem("p", "", (TestCase("1", "", "ok"), TestCase("2", "", "ok")))
    [(_, verdict)] = judge_jobs([JudgeJob(("k",), problem, TOUCH)], JudgeSettings(), sandbox)
    assert verdict.passed
    return [test.memory_kib for test in verdict.tests]


def resident_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1])


def test_a_judge_that_holds_two_gigabytes_reports_the_same_memory():
    sandboxes = list(rungs())
    if not sandboxes:
        pytest.skip("no sandbox works here")
    small = [memory_kib(sandbox) for sandbox in sandboxes]
    ballast = b"x" * (2 << 30)
    assert resident_kib() > 2 << 20
    large = [memory_kib(sandbox) for sandbox in sandboxes]
    assert len(ballast) == 2 << 30  # held until here
    for before, after in zip(small, large, strict=True):
        assert after == pytest.approx(before, abs=2048)
        assert all(20 << 10 < kib < 24 << 10 for kib in before)
