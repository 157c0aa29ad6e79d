"""Running one command at a time in a sandbox, through a launcher process.

``SandboxWorker -> launcher.py -> bwrap | unshare | nothing -> supervisor -> the command``. The
launcher keeps the judge's own memory out of what is measured, the supervisor (supervisor.cpp)
enforces the limits from inside and reports what the command alone has used.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from evaluator.blob import Blob
from evaluator.errors import SandboxError

# Nobody's account, so that RLIMIT_NPROC binds and no file belongs to it; below 2**16 for
# containers that map only so many ids.
SANDBOX_UID = 64999

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/box"}
_STDERR_BYTES = 64 << 10
_GRACE_S = 20.0

Reason = Literal["exit", "cpu", "wall", "memory"]


@dataclass(frozen=True)
class Limits:
    """What one command may use.

    Attributes:
        cpu_ms: CPU milliseconds, all threads together.
        wall_ms: Wall milliseconds, not counting time spent waiting for a busy processor.
        memory_kib: Resident KiB of the process; None sets no such limit.
        address_space_bytes: Address space; only a backstop where ``memory_kib`` is given.
        stack_bytes: Stack of the main thread.
        file_bytes: Size of any file written, standard output and error included.
        box_bytes: Size of the private folder.
        processes: Processes and threads of the sandbox's user; 1 forbids new ones.
        devices: Device nodes to show.
    """

    cpu_ms: int
    wall_ms: int
    memory_kib: int | None
    address_space_bytes: int
    stack_bytes: int
    file_bytes: int
    box_bytes: int = 32 << 20
    processes: int = 1
    devices: tuple[str, ...] = ("null", "zero", "random", "urandom")


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
    program: Blob | None = None
    stdin: Blob | None = None
    files: Mapping[str, Blob] = field(default_factory=dict)


class SandboxWorker:
    """Runs commands one after the other; not for use by several threads at once.

    Args:
        prefix: Gives the command line that enters the sandbox under some limits.
        root: The supervisor's ``root`` setting: ``ready``, ``build`` or ``host``.
        supervisor: The compiled supervisor.
    """

    def __init__(
        self, prefix: Callable[[Limits], Sequence[str]], root: str, supervisor: Blob
    ) -> None:
        self._prefix = prefix
        self._root = root
        self._supervisor = supervisor
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._aborted = False

    def __enter__(self) -> "SandboxWorker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, command: Command, limits: Limits) -> RunReport:
        """Run a command to its end.

        Raises:
            SandboxError: If the sandbox failed; the command is not to blame.
        """
        files = sum(len(blob) for blob in command.files.values())
        limits = replace(limits, box_bytes=limits.box_bytes + files)
        stdout, stderr, report = Blob("stdout"), Blob("stderr"), Blob("report")
        argv = [*self._prefix(limits), *self._supervised(command, limits)]
        outputs = [stdout.fd, stderr.fd, report.fd, self._supervisor.fd]
        timeout_s = 10 * limits.wall_ms / 1000 + _GRACE_S
        opened = [blob.reopen() for blob in self._inputs(command)]
        try:
            answer = self._ask(argv, [opened[0], *outputs, *opened[1:]], timeout_s)
        finally:
            for fd in opened:
                os.close(fd)
        line = report.read(4096).decode(errors="replace")
        parts = line.split()
        if answer.get("timed_out") or len(parts) != 6 or parts[0] == "error":
            detail = line.strip() or stderr.read(400).decode(errors="replace").strip()
            raise SandboxError(f"the sandbox failed ({answer}): {detail or 'no message'}")
        return _report(parts, stdout, stderr, limits)

    def _inputs(self, command: Command) -> list[Blob]:
        """List the blobs to open: stdin, the program (or a stand-in), the files."""
        nothing = Blob("nothing")
        return [command.stdin or nothing, command.program or nothing, *command.files.values()]

    def _supervised(self, command: Command, limits: Limits) -> list[str]:
        """Spell the supervisor's command line; descriptors as :meth:`run` hands them over."""
        rss = [] if limits.memory_kib is None else [f"rss={limits.memory_kib * 1024}"]
        copies = [f"copy={fd}:{name}" for fd, name in enumerate(command.files, start=6)]
        return [
            "/proc/self/fd/4",
            "report=3",
            f"exec={-1 if command.program is None else 5}",
            f"root={self._root}",
            f"dev={','.join(limits.devices)}",
            f"box={limits.box_bytes}",
            f"cpu={limits.cpu_ms}",
            f"wall={limits.wall_ms}",
            *rss,
            f"as={limits.address_space_bytes}",
            f"stack={limits.stack_bytes}",
            f"fsize={limits.file_bytes}",
            f"nproc={limits.processes}",
            *copies,
            "--",
            *command.argv,
        ]

    def _ask(self, argv: Sequence[str], fds: Sequence[int], timeout_s: float) -> dict[str, object]:
        """Have the launcher run a command line; a launcher that fails is replaced next time."""
        request = {"argv": list(argv), "env": _ENVIRONMENT, "timeout_s": timeout_s}
        channel = self._channel or self._start()
        try:
            socket.send_fds(channel, [json.dumps(request).encode()], list(fds))
            message = channel.recv(1 << 16)
        except OSError as error:
            self.close()
            raise SandboxError(f"the launcher is gone ({error})") from error
        if not message:
            self.close()
            raise SandboxError("the launcher ended without an answer")
        answer = cast("dict[str, object]", json.loads(message))
        if "error" in answer:
            raise SandboxError(f"{argv[0]} cannot be started: {answer['error']}")
        return answer

    def _start(self) -> socket.socket:
        """Start the launcher and wait for its greeting."""
        if self._aborted:
            raise SandboxError("the judge was told to stop")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        script = Path(__file__).with_name("launcher.py")
        identity = [str(theirs.fileno()), str(SANDBOX_UID), str(SANDBOX_UID)]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), *identity],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # no controlling terminal, and no Ctrl-C from it
                env={},
            )
        self._channel = ours
        if not ours.recv(64):
            self.close()
            raise SandboxError(f"the launcher {script} does not start with {sys.executable}")
        return ours

    def abort(self) -> None:
        """End the running command from another thread; :meth:`run` then raises."""
        self._aborted = True
        channel = self._channel
        if channel is not None:
            try:
                channel.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed in the meantime, which is what was wanted
                return

    def close(self) -> None:
        """End the launcher and whatever it runs."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
            self._process = None


def _report(parts: Sequence[str], stdout: Blob, stderr: Blob, limits: Limits) -> RunReport:
    """Turn the supervisor's result line into a report."""
    exit_code, ended_by, cpu_us, wall_us, memory = (int(parts[i]) for i in (0, 1, 3, 4, 5))
    full = len(stdout) >= limits.file_bytes or len(stderr) >= limits.file_bytes
    return RunReport(
        exit_code=None if ended_by else exit_code,
        signal=ended_by or None,
        reason=cast("Reason", parts[2]),
        cpu_ms=cpu_us / 1000,
        wall_ms=wall_us / 1000,
        memory_kib=memory,
        stdout=stdout.read(),
        stderr=stderr.read(_STDERR_BYTES),
        output_full=full,
    )
