"""Running a compiled program on one test, and naming what happened."""

import signal
from collections.abc import Callable
from dataclasses import dataclass

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.sandbox.command import Command, Limits, MemoryFile, RunReport
from evaluator.judging.sandbox.worker import SandboxWorker
from evaluator.judging.shared_machine import SharedMachine
from evaluator.judging.verdicts import Decision, signal_name
from evaluator.store.records import TestRecord
from evaluator.suites.problem import Problem, TestCase, to_bytes

# What a program may map without touching it; residency is what counts.
_UNTOUCHED_BYTES = 4 << 30


@dataclass(frozen=True)
class CompiledProgram:
    """A compiled program, and what all of its tests share; ``decide(input, output, answer)``."""

    program: MemoryFile
    problem: Problem
    decide: Callable[[bytes, bytes, bytes], Decision]
    settings: JudgeSettings
    machine: SharedMachine
    worker: SandboxWorker


def run_test(built: CompiledProgram, test: TestCase, *, decides: bool) -> TestRecord:
    """Run a program on one test; ``decides`` tells whether the problem's verdict may hang on it.

    A TLE near the limit may be the machine's doing, and so may SIGKILL that this judge did not
    send. It is run again while nothing else of this judge runs, and the second run counts.
    """
    time_ms, memory_kib = built.problem.limits(test)
    settings, answer = built.settings, to_bytes(test.output)
    limits = Limits(
        cpu_ms=round(time_ms * settings.extra_time_factor),
        wall_ms=round(time_ms * settings.wall_multiple),
        memory_kib=memory_kib,
        address_space_bytes=memory_kib * 1024 + _UNTOUCHED_BYTES,
        stack_bytes=memory_kib * 1024,  # as on Luogu: deep recursion may use all of the memory
        file_bytes=max(settings.output_kib * 1024, 2 * len(answer)),
    )
    stdin = MemoryFile.of(to_bytes(test.input))
    command = Command(("program",), program=built.program, stdin=stdin)
    report = built.machine.run(
        lambda: built.worker.run(command, limits),
        lambda report: _may_be_the_machine(report, time_ms, decides),
    )
    decision = _broken_limit(report, limits, time_ms, memory_kib)
    if decision is None:
        decision = built.decide(to_bytes(test.input), report.stdout, answer)
    return TestRecord(
        name=test.name,
        verdict=decision.verdict,
        score=decision.share * test.score,
        time_ms=round(report.cpu_ms),
        memory_kib=report.memory_kib,
        exit_code=report.exit_code,
        signal=report.signal,
        detail=decision.detail,
    )


def _may_be_the_machine(report: RunReport, time_ms: int, decides: bool) -> bool:
    """Whether a run might end otherwise on a quiet machine, and to find out is worth the time.

    Most programs that are killed are hopeless, on many tests, and while one runs alone all other
    cores wait. So these run again only until a test has failed the program.
    """
    if report.reason == "wall":
        return report.cpu_ms > time_ms / 2
    if report.reason == "cpu":
        return decides
    killed = report.signal == signal.SIGKILL
    return report.reason == "exit" and (report.cpu_ms > time_ms or killed)


def _broken_limit(
    report: RunReport, limits: Limits, time_ms: int, memory_kib: int
) -> Decision | None:
    """Name what a run did wrong, whatever it printed."""
    if report.output_full:
        return Decision("OLE", 0.0, f"more output than allowed ({limits.file_bytes // 1024} KiB)")
    if report.reason == "memory" or report.memory_kib > memory_kib:
        return Decision("MLE", 0.0, f"{report.memory_kib} KiB, allowed are {memory_kib} KiB")
    if report.reason == "wall":
        asleep = f"asleep: {report.wall_ms:.0f} ms passed, {report.cpu_ms:.0f} ms used"
        return Decision("TLE", 0.0, asleep)
    if report.reason == "cpu" or report.cpu_ms > time_ms:
        return Decision("TLE", 0.0, f"{report.cpu_ms:.0f} ms, allowed are {time_ms} ms")
    said = report.stderr[:200].decode("utf-8", "backslashreplace").strip()
    said = f": {said}" if said else ""
    if report.signal is not None:
        return Decision("RE", 0.0, f"ended by {signal_name(report.signal)}{said}")
    if report.exit_code != 0:
        return Decision("RE", 0.0, f"exit code {report.exit_code}{said}")
    return None
