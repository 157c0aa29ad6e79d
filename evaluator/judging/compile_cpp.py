"""Compiling a program, inside the sandbox and under limits of its own."""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.sandbox.command import Command, Limits, MemoryFile, RunReport
from evaluator.judging.sandbox.worker import SandboxWorker
from evaluator.judging.verdicts import signal_name
from evaluator.suites.problem import to_bytes

_MESSAGE_CHARS = 4000
_SAYS_KILLED = re.compile(
    rb"^(g\+\+: fatal error: Killed signal terminated program"
    rb"|collect2: fatal error: ld terminated with signal 9)",
    re.MULTILINE,
)
_SAYS_FULL = re.compile(
    rb"virtual memory exhausted|out of memory|[Cc]annot allocate memory|bad_alloc"
    rb"|File size limit exceeded|No space left on device"
)
# The program leaves the sandbox through standard output, so nothing of it is ever on disk.
_SCRIPT = 'g++ "$@" && cat program'


@dataclass(frozen=True)
class Compiled:
    """Outcome of a compilation.

    Attributes:
        message: What the compiler said, cut to some 4000 characters.
        disturbed: Whether the machine may have stopped the compiler: a part was killed from
            outside, or it waited instead of working. A source may feign either.
        limit_met: Whether a limit stopped it.
    """

    program: MemoryFile | None
    message: str
    disturbed: bool = False
    limit_met: bool = False

    @property
    def says_nothing(self) -> bool:
        """Whether it failed for want of time, memory or luck: with more it might compile."""
        return self.disturbed or self.limit_met


def compile_cpp(
    worker: SandboxWorker,
    source: str,
    settings: JudgeSettings,
    headers: Mapping[str, MemoryFile] | None = None,
) -> Compiled:
    """Compile one source file, with ``headers`` beside it; a SandboxError is not its fault."""
    flags = [f"-std={settings.standard}", *settings.compile_flags]
    quiet = ["-w", "-fmax-errors=20", "-fdiagnostics-color=never"]  # bounds what it says, no more
    argv = ["/bin/sh", "-c", _SCRIPT, "sh", *flags, *quiet, "-I.", "-o", "program", "main.cpp"]
    try:
        text = to_bytes(source)
    except UnicodeEncodeError:  # one from a JSON file may hold surrogates that stand for no byte
        text = source.encode("utf-8", "surrogatepass")
    main = MemoryFile.of(text)
    command = Command((*argv, *settings.link_flags), files={"main.cpp": main, **(headers or {})})
    report = worker.run(command, _limits(settings))
    message = _shortened(report.stderr.decode("utf-8", "replace"))
    if report.exit_code == 0 and report.reason == "exit" and report.stdout:
        return Compiled(MemoryFile.of(report.stdout, "program"), message)
    return _failed(report, settings, message)


def _limits(settings: JudgeSettings) -> Limits:
    """Limits of a compilation; the processes are g++'s own, so their number is no danger."""
    return Limits(
        cpu_ms=settings.compile_cpu_ms,
        wall_ms=settings.compile_wall_ms,
        memory_kib=None,
        address_space_bytes=settings.compile_memory_kib * 1024,
        stack_bytes=64 << 20,
        file_bytes=settings.compile_file_kib * 1024,
        box_bytes=4 * settings.compile_file_kib * 1024,
        processes=256,
        contest=False,
    )


def _failed(report: RunReport, settings: JudgeSettings, message: str) -> Compiled:
    """Tell a source that does not compile from a compiler that was stopped, and by what."""
    used, allowed = report.cpu_ms, settings.compile_cpu_ms
    waited = report.reason == "wall" and used < report.wall_ms / 2
    out_of_time = used >= 0.8 * allowed  # the kernel counts ticks, less exactly
    killed = report.signal == signal.SIGKILL or report.exit_code == 128 + signal.SIGKILL
    killed = killed or _SAYS_KILLED.search(report.stderr) is not None
    stopped = ""
    if report.reason != "exit":
        after = f", after {used / 1000:.1f} s of CPU time" if waited else ""
        stopped = f"the compiler was stopped at its {report.reason} limit{after}\n"
    elif out_of_time:
        seconds = f"{used / 1000:.1f} s of CPU time, {allowed / 1000:g} s are allowed"
        stopped = f"the compiler used {seconds}\n"
    elif report.output_full:
        stopped = "the compiler wrote more than it may\n"
    elif report.signal is not None:
        stopped = f"the compiler was ended by {signal_name(report.signal)}\n"
    return Compiled(
        program=None,
        message=stopped + message,
        disturbed=waited or (killed and report.reason == "exit" and not out_of_time),
        limit_met=stopped != "" or _SAYS_FULL.search(report.stderr) is not None,
    )


def _shortened(message: str) -> str:
    """Keep the first lines of a long message, and the last, where includes and notes end."""
    if len(message) <= _MESSAGE_CHARS:
        return message
    head = message.rfind("\n", 0, 3 * _MESSAGE_CHARS // 4) + 1 or 3 * _MESSAGE_CHARS // 4
    tail = message.find("\n", len(message) - _MESSAGE_CHARS // 4, len(message) - 1) + 1
    tail = tail or len(message) - _MESSAGE_CHARS // 4
    left_out = message.count("\n", head, tail)
    return f"{message[:head]}... ({left_out} lines left out)\n{message[tail:]}"
