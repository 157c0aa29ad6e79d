"""What a compilation that failed is told by."""

from signal import SIGKILL

import pytest

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.compile_cpp import compile_cpp
from evaluator.judging.sandbox.command import RunReport


def test_long_message_keeps_its_first_and_last_lines(sandbox):
    lines = [f'static_assert(false, "{n} {"x" * 400}");' for n in range(18)]
    with sandbox.worker() as worker:
        message = compile_cpp(worker, "\n".join(lines), JudgeSettings()).message
    assert message.startswith("main.cpp:1:") and "lines left out)\n" in message
    assert '"17 xxx' in message and '"12 xxx' not in message
    assert 3000 < len(message) < 4100


class ReportedRun:
    """A worker whose command ended as a report says."""

    def __init__(self, **fields):
        defaults = {"exit_code": 1, "signal": None, "reason": "exit", "cpu_ms": 900.0}
        defaults |= {"memory_kib": 1, "stdout": b"", "stderr": b"", "output_full": False}
        self.report = RunReport(**(defaults | {"wall_ms": 8000.0} | fields))

    def run(self, command, limits):
        return self.report


def test_compiler_at_its_wall_limit_is_excused_by_waiting_alone():
    waited = compile_cpp(ReportedRun(reason="wall", cpu_ms=2000.0), "", JudgeSettings())
    assert "wall limit, after 2.0 s of CPU time" in waited.message and waited.disturbed
    worked = compile_cpp(ReportedRun(reason="wall", cpu_ms=7000.0), "", JudgeSettings())
    assert "wall limit\n" in worked.message and not worked.disturbed


@pytest.mark.parametrize(
    ("fields", "killed"),
    [
        ({}, False),
        ({"stderr": b"collect2: fatal error: ld terminated with signal 9 [Killed]\n"}, True),
        ({"signal": SIGKILL, "exit_code": None}, True),
        ({"exit_code": 137}, True),
        ({"exit_code": 137, "cpu_ms": 9500.0}, False),  # by the kernel, at the CPU limit
    ],
)
def test_compiler_that_was_killed_is_told_from_one_at_its_limit(fields, killed):
    assert compile_cpp(ReportedRun(**fields), "", JudgeSettings()).disturbed is killed
