"""Running a compiled program on one test, and naming what happened."""

import signal
from dataclasses import dataclass

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.compare_output import compare_output
from evaluator.judging.compile_cpp import Compiled
from evaluator.judging.run_gate import RunGate
from evaluator.judging.sandbox.command import Command, Limits, RunReport
from evaluator.judging.sandbox.memory_file import MemoryFile
from evaluator.judging.sandbox.worker import SandboxWorker
from evaluator.judging.special_judge import SpecialJudges
from evaluator.judging.verdicts import TestVerdict, Verdict, signal_name
from evaluator.suites.problem import Problem, TestCase, to_bytes

# What a program may map without touching it; residency is what counts.
_UNTOUCHED_BYTES = 4 << 30


@dataclass(frozen=True)
class TestBench:
    """What tests share: all of a judge, and a checker those of one problem that has one."""

    __test__ = False

    settings: JudgeSettings
    gate: RunGate
    special_judges: SpecialJudges
    checker: Compiled | None = None


def run_test(
    bench: TestBench,
    worker: SandboxWorker,
    program: MemoryFile,
    problem: Problem,
    test: TestCase,
    *,
    decides: bool,
) -> TestVerdict:
    """Run a program on one test.

    A TLE near the limit may be the machine's doing, and so may SIGKILL that this judge did not send
    (a machine without memory). It is run again while nothing else of this judge runs, and the
    second run counts.

    Args:
        bench: What tests share.
        worker: Where to run the program.
        program: The compiled program.
        problem: Whose test it is.
        test: The test.
        decides: Whether the problem's verdict may hang on this test.

    Raises:
        SandboxError: If the sandbox failed.
    """
    time_ms, _ = problem.limits(test)
    limits = _limits(bench.settings, problem, test)
    command = Command(("program",), program=program, stdin=MemoryFile.of(to_bytes(test.input)))
    with bench.gate.together():
        report = worker.run(command, limits)
    if _may_be_the_machine(report, time_ms, decides):
        with bench.gate.alone():
            report = worker.run(command, limits)
    verdict, share, detail = _broken_limit(bench.settings, report, problem, test) or _answer(
        bench, worker, report, problem, test
    )
    return TestVerdict(
        name=test.name,
        verdict=verdict,
        score=share * test.score,
        time_ms=round(report.cpu_ms),
        memory_kib=report.memory_kib,
        exit_code=report.exit_code,
        signal=report.signal,
        detail=detail,
    )


def _limits(settings: JudgeSettings, problem: Problem, test: TestCase) -> Limits:
    """Limits of one test; an answer longer than the output limit raises it."""
    time_ms, memory_kib = problem.limits(test)
    return Limits(
        cpu_ms=round(time_ms * settings.extra_time_factor),
        wall_ms=round(time_ms * settings.wall_multiple),
        memory_kib=memory_kib,
        address_space_bytes=memory_kib * 1024 + _UNTOUCHED_BYTES,
        stack_bytes=memory_kib * 1024,  # as on Luogu: deep recursion may use all of the memory
        file_bytes=max(settings.output_kib * 1024, 2 * len(test.output.encode("utf-8", "replace"))),
    )


def _may_be_the_machine(report: RunReport, time_ms: int, decides: bool) -> bool:
    """Whether a run might end otherwise on a quiet machine, and to find out is worth the time.

    Beside others a program bound by memory has used 1.4 times its CPU time, which is beyond the
    kill. But most programs that are killed are hopeless, on many tests, and while one runs alone
    all other cores wait. So these run again only until a test has failed the program: once for a
    hopeless one.
    """
    if report.reason == "wall":
        return report.cpu_ms > time_ms / 2
    if report.reason == "cpu":
        return decides
    killed = report.signal == signal.SIGKILL
    return report.reason == "exit" and (report.cpu_ms > time_ms or killed)


def _broken_limit(
    settings: JudgeSettings, report: RunReport, problem: Problem, test: TestCase
) -> tuple[Verdict, float, str] | None:
    """Name what a run did wrong, whatever it printed: verdict, share of the points, detail."""
    time_ms, memory_kib = problem.limits(test)
    if report.output_full:
        limit = _limits(settings, problem, test).file_bytes // 1024
        return "OLE", 0.0, f"more output than allowed ({limit} KiB)"
    if report.reason == "memory" or report.memory_kib > memory_kib:
        return "MLE", 0.0, f"{report.memory_kib} KiB, allowed are {memory_kib} KiB"
    if report.reason == "wall":
        return "TLE", 0.0, f"asleep: {report.wall_ms:.0f} ms passed, {report.cpu_ms:.0f} ms used"
    if report.reason == "cpu" or report.cpu_ms > time_ms:
        return "TLE", 0.0, f"{report.cpu_ms:.0f} ms, allowed are {time_ms} ms"
    if report.signal is not None:
        return "RE", 0.0, f"ended by {signal_name(report.signal)}{_said(report)}"
    if report.exit_code != 0:
        return "RE", 0.0, f"exit code {report.exit_code}{_said(report)}"
    return None


def _answer(
    bench: TestBench,
    worker: SandboxWorker,
    report: RunReport,
    problem: Problem,
    test: TestCase,
) -> tuple[Verdict, float, str]:
    """Judge what a run printed: verdict, share of the points, detail."""
    answer = to_bytes(test.output)
    if bench.checker is not None:
        said = bench.special_judges.check(
            worker, bench.gate, bench.checker, to_bytes(test.input), report.stdout, answer
        )
        return said.verdict, said.share, said.detail
    comparison = compare_output(problem.checker, report.stdout, answer)
    return ("AC", 1.0, "") if comparison.ok else ("WA", 0.0, comparison.detail)


def _said(report: RunReport) -> str:
    """The start of what a crashed program wrote to standard error."""
    text = report.stderr[:200].decode("utf-8", "backslashreplace").strip()
    return f": {text}" if text else ""
