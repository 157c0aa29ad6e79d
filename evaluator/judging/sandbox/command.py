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
        cpu_ms: All threads together.
        wall_ms: Not counting time that the first process spent waiting for a busy processor.
        memory_kib: Resident; None sets no such limit.
        address_space_bytes: Only a backstop where ``memory_kib`` is given.
        file_bytes: Size of any file written, standard output and error included.
        box_bytes: Size of the private folder.
        processes: With threads; 1 forbids new ones.
        contest: Whether there is what a program of a contest may look for and a compiler need not
            see: ``/dev/zero`` and the like beside ``/dev/null``, the streams by name
            (``/dev/stdin``, ``/dev/fd``), a ``/tmp`` for what ``tmpfile()`` makes.
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
        reason: ``exit`` where it ended by itself, else the limit for which it was killed.
        cpu_ms: User and system.
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
    """What to run: an executable, or what the first argument names; files for its folder."""

    argv: tuple[str, ...]
    program: MemoryFile | None = None
    stdin: MemoryFile | None = None
    files: Mapping[str, MemoryFile] = field(default_factory=dict)
