"""Special judges: programs of the problem setter that decide about an output.

They are called ``checker input output answer`` and answer as testlib does, by exit code: 0
accepted, 1 wrong answer, 2 presentation error, 4 output left over and 8 output missing (all three
count as wrong), 3 the checker itself failed, 7 partial points, with which the message begins:
``points 0.5 ...`` is a share; above 1 it is taken as percent, below 0 as none. Where the message
begins with ``partially correct (50)`` that is the percentage: ``_pc(50)`` has no code of its own.
``points_info=...`` is for a scorer that is not here, so the checker has failed.
"""

import re
import threading

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.compile_cpp import Compiled, compile_cpp
from evaluator.judging.sandbox.command import Command, Limits, MemoryFile, RunReport
from evaluator.judging.sandbox.worker import SandboxWorker
from evaluator.judging.shared_machine import SharedMachine
from evaluator.judging.verdicts import Decision, signal_name

_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?!\w|[.,]\d)"
_POINTS = re.compile(rf"^\s*(?:points\s+)?{_NUMBER}")
_PERCENT = re.compile(r"^\s*partially correct \((\d+)\)")


class SpecialJudges:
    """Compiles each special judge once, for all workers, and runs them."""

    def __init__(self, settings: JudgeSettings, machine: SharedMachine) -> None:
        self._settings = settings
        self._machine = machine
        self._limits = Limits(
            cpu_ms=settings.checker_cpu_ms,
            wall_ms=6 * settings.checker_cpu_ms,
            memory_kib=1 << 20,
            address_space_bytes=4 << 30,
            stack_bytes=1 << 30,
            file_bytes=1 << 20,
        )
        self._lock = threading.Lock()
        self._compiled: dict[str, Compiled] = {}

    def compiled(self, worker: SandboxWorker, source: str) -> Compiled:
        """Compile a special judge, or give the one that was compiled before, unless it met a limit.

        Not to be called within a run of the shared machine: others wait in here for what waits
        there.
        """
        with self._lock:
            if source in self._compiled:
                return self._compiled[source]
            path = self._settings.testlib_path
            headers = {} if path is None else {"testlib.h": MemoryFile.of(path.read_bytes())}
            settings = self._settings.of_checkers()
            compiled = self._machine.run(
                lambda: compile_cpp(worker, source, settings, headers),
                lambda compiled: compiled.says_nothing,
            )
            if not compiled.says_nothing:
                self._compiled[source] = compiled
            return compiled

    def check(
        self, worker: SandboxWorker, checker: Compiled, inp: bytes, output: bytes, answer: bytes
    ) -> Decision:
        """Have a special judge decide about an output; one that meets a limit is asked twice."""
        if checker.program is None:
            hint = "" if self._settings.testlib_path else " (testlib_path is not set)"
            return Decision("UKE", 0.0, f"the checker does not compile{hint}: {checker.message}")
        texts = {"input": inp, "output": output, "answer": answer}
        files = {name: MemoryFile.of(text) for name, text in texts.items()}
        command = Command(("checker", *files), program=checker.program, files=files)
        report = self._machine.run(
            lambda: worker.run(command, self._limits), lambda report: report.reason != "exit"
        )
        return _decide(report, report.stderr or report.stdout[:4000])


def _decide(report: RunReport, said: bytes) -> Decision:
    exit_code = report.exit_code if report.reason == "exit" else None
    message = said[:1000].decode("utf-8", "replace").strip()
    if exit_code is not None and (found := _PERCENT.search(message)) is not None:
        return _partial(int(found[1]) / 100, message)
    if exit_code == 0:
        return Decision("AC", 1.0, message)
    if exit_code in (1, 2, 4, 8):
        return Decision("WA", 0.0, message)
    if exit_code == 7 and (found := _POINTS.search(message)) is not None:
        points = float(found[1])
        return _partial(points if points <= 1 else points / 100, message)
    ending = f"exit code {exit_code}" if report.reason == "exit" else f"{report.reason} limit"
    if report.reason == "exit" and report.signal is not None:
        ending = f"ended by {signal_name(report.signal)}"
    return Decision("UKE", 0.0, f"the checker failed ({ending}): {message}")


def _partial(share: float, message: str) -> Decision:
    """Partial points: all of them are an accepted test."""
    share = min(max(share, 0.0), 1.0)
    return Decision("AC" if share == 1 else "PC", share, message)
