"""What a sandbox is asked to run, under which limits, and what it reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from evaluator.judging.sandbox.memory_file import MemoryFile

Reason = Literal["exit", "cpu", "wall", "memory"]


@dataclass(frozen=True)
class Limits:
    """What one command may use.

    Attributes:
        cpu_ms: CPU milliseconds, all threads together.
        wall_ms: Wall milliseconds, not counting time that the first process spent waiting for a
            busy processor.
        memory_kib: Resident KiB of the process; None sets no such limit.
        address_space_bytes: Address space; only a backstop where ``memory_kib`` is given.
        stack_bytes: Stack of the main thread.
        file_bytes: Size of any file written, standard output and error included.
        box_bytes: Size of the private folder.
        processes: Processes and threads of the sandbox's user; 1 forbids new ones.
        contest: Whether there is what a program of a contest may look for and a compiler need not
            see: ``/dev/zero``, ``/dev/random`` and the like beside ``/dev/null``, the streams by
            name (``/dev/stdin``, ``/dev/fd``), a ``/tmp`` that takes files without a name, as
            ``tmpfile()`` makes them.
    """

    cpu_ms: int
    wall_ms: int
    memory_kib: int | None
    address_space_bytes: int
    stack_bytes: int
    file_bytes: int
    box_bytes: int = 32 << 20
    processes: int = 1
    contest: bool = True


@dataclass(frozen=True)
class RunReport:
    """How a command ended and what it used.

    Attributes:
        exit_code: Or None where a signal ended it.
        signal: Or None where it exited.
        reason: ``exit`` where it ended by itself, else the limit for which it was killed.
        cpu_ms: CPU milliseconds, user and system.
        wall_ms: Wall milliseconds.
        memory_kib: Peak resident KiB of the command alone.
        stdout: At most ``file_bytes`` of it.
        stderr: The first 64 KiB of it.
        output_full: Whether standard output or error ran into ``file_bytes``.
    """

    exit_code: int | None
    signal: int | None
    reason: Reason
    cpu_ms: float
    wall_ms: float
    memory_kib: int
    stdout: bytes
    stderr: bytes
    output_full: bool


@dataclass(frozen=True)
class Command:
    """What to run.

    Attributes:
        argv: Arguments; the first is a path where ``program`` is None.
        program: An executable.
        stdin: Standard input; None means none.
        files: Files to put into the private folder, by name.
    """

    argv: tuple[str, ...]
    program: MemoryFile | None = None
    stdin: MemoryFile | None = None
    files: Mapping[str, MemoryFile] = field(default_factory=dict)
