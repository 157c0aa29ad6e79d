"""Special judges: programs, untrusted like any other, that decide about an output.

They are called ``checker input output answer`` and answer by testlib's exit codes: 0 accepted,
1 wrong answer, 2 presentation error and 8 an output that ends too early (both count as wrong),
3 the checker itself failed, 7 partial points, which stand in the message as ``points 0.5 ...``
(a share; above 1 it is taken as percent).
"""

import re
import threading
from dataclasses import dataclass
from typing import Literal

from evaluator.errors import SandboxError
from evaluator.judging.blob import Blob
from evaluator.judging.compile_cpp import Compiled, compile_cpp
from evaluator.judging.judge_settings import JudgeSettings
from evaluator.judging.sandbox_command import Command, Limits, RunReport
from evaluator.judging.sandbox_worker import SandboxWorker
from evaluator.judging.verdicts import signal_name

_POINTS = re.compile(r"points\s+([0-9]+(?:\.[0-9]+)?)|^\s*([0-9]+(?:\.[0-9]+)?)\b")
_LIMITS = Limits(
    cpu_ms=10_000,
    wall_ms=60_000,
    memory_kib=1 << 20,
    address_space_bytes=4 << 30,
    stack_bytes=64 << 20,
    file_bytes=1 << 20,
)


@dataclass(frozen=True)
class CheckerVerdict:
    """What a special judge said.

    Attributes:
        verdict: UKE means that the checker failed, whatever the output.
        share: Part of the test's points, 0 to 1.
        detail: Its message.
    """

    verdict: Literal["AC", "WA", "PC", "UKE"]
    share: float
    detail: str


class SpecialJudges:
    """Compiles each special judge once, for all workers."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._compiled: dict[str, Compiled] = {}

    def check(
        self, worker: SandboxWorker, source: str, inp: bytes, output: bytes, answer: bytes
    ) -> CheckerVerdict:
        """Have the special judge with this source decide about an output.

        Raises:
            SandboxError: If the sandbox failed.
        """
        compiled = self._compile(worker, source)
        if compiled.program is None:
            hint = "" if self._settings.testlib_path else " (testlib_path is not set)"
            return CheckerVerdict(
                "UKE", 0.0, f"the checker does not compile{hint}: {compiled.message}"
            )
        files = {"input": Blob.of(inp), "output": Blob.of(output), "answer": Blob.of(answer)}
        command = Command(("checker", *files), program=compiled.program, files=files)
        report = worker.run(command, _LIMITS)
        said = report.stderr or report.stdout[:4000]
        return _decide(report, said)

    def _compile(self, worker: SandboxWorker, source: str) -> Compiled:
        """Compile a checker, or give the program that was compiled before."""
        with self._lock:
            if source not in self._compiled:
                path = self._settings.testlib_path
                headers = {} if path is None else {"testlib.h": Blob.of(path.read_bytes())}
                compiled = compile_cpp(worker, source, self._settings, headers)
                if compiled.disturbed:
                    raise SandboxError(f"the checker's compiler was disturbed: {compiled.message}")
                self._compiled[source] = compiled
            return self._compiled[source]


def _decide(report: RunReport, said: bytes) -> CheckerVerdict:
    """Read a checker's exit code and message."""
    exit_code = report.exit_code if report.reason == "exit" else None
    message = said[:1000].decode("utf-8", "replace").strip()
    if exit_code == 0:
        return CheckerVerdict("AC", 1.0, message)
    if exit_code in (1, 2, 8):
        return CheckerVerdict("WA", 0.0, message)
    if exit_code == 7 and (found := _POINTS.search(message)) is not None:
        points = float(found[1] or found[2])
        share = points if points <= 1 else min(points / 100, 1.0)
        return CheckerVerdict("AC" if share == 1 else "PC", share, message)
    if report.reason != "exit":
        ending = f"{report.reason} limit"
    elif report.signal is not None:
        ending = f"ended by {signal_name(report.signal)}"
    else:
        ending = f"exit code {exit_code}"
    return CheckerVerdict("UKE", 0.0, f"the checker failed ({ending}): {message}")
