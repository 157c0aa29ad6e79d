"""A sandbox that is running, and the supervisor in it that takes commands.

A room takes one command after the other as long as each leaves it clean: it ended by itself, no
process of it is left, and no file. Only commands that trust each other share one (the tests of
one program); building a room takes some 10 ms, a command in it 1 ms.
"""

import os
import socket
from collections.abc import Sequence
from typing import cast

from evaluator.errors import SandboxError
from evaluator.judging.sandbox.blob import Blob
from evaluator.judging.sandbox.command import Command, Limits, Reason, RunReport

_STDERR_BYTES = 64 << 10
_ANSWER_BYTES = 1024
_GRACE_S = 20.0


class Room:
    """One running sandbox.

    Args:
        control: Our end of the socket to its supervisor.
        messages: Where the tools that build the sandbox write their complaints.
        tenant: The program that alone may run here, or None for a command of the system.
        limits: Of the first command; the size of the private folder and the devices stay.

    Attributes:
        clean: Whether another command may be run.
    """

    def __init__(
        self, control: socket.socket, messages: Blob, tenant: Blob | None, limits: Limits
    ) -> None:
        self._control = control
        self._messages = messages
        self._tenant = tenant
        self._limits = limits
        self.clean = False

    def suits(self, command: Command, limits: Limits) -> bool:
        """Whether a command may be run here."""
        return (
            self.clean
            and self._tenant is not None
            and self._tenant is command.program
            and (self._limits.devices, self._limits.streams) == (limits.devices, limits.streams)
            and self._limits.box_bytes >= limits.box_bytes
        )

    def wait_until_ready(self) -> None:
        """Wait for the supervisor's greeting.

        Raises:
            SandboxError: If the sandbox cannot be built, with what its tools say.
        """
        self._control.settimeout(_GRACE_S)
        greeting = self._receive()
        if greeting != "ready":
            raise SandboxError(f"the sandbox cannot be built: {greeting}")
        self.clean = True

    def run(self, command: Command, limits: Limits) -> RunReport:
        """Run a command to its end.

        Raises:
            SandboxError: If the sandbox failed; the command is not to blame.
        """
        self.clean = False
        stdout, stderr = Blob("stdout"), Blob("stderr")
        stdin, *others = [blob.reopen() for blob in _inputs(command)]
        try:
            fds = [stdin, stdout.fd, stderr.fd, *others]
            self._control.settimeout(10 * limits.wall_ms / 1000 + _GRACE_S)
            socket.send_fds(self._control, [_request(command, limits)], fds)
            answer = self._receive()
        except OSError as error:
            raise SandboxError(f"the sandbox is gone ({error})") from error
        finally:
            for fd in (stdin, *others):
                os.close(fd)
        parts = answer.split()
        if len(parts) != 7 or parts[0] == "error":
            raise SandboxError(f"the sandbox failed: {answer}")
        report = _report(parts, stdout, stderr, limits)
        self.clean = report.reason == "exit" and parts[6] == "1"
        return report

    def _receive(self) -> str:
        """Receive the supervisor's next message, or what went wrong instead."""
        try:
            answer = self._control.recv(_ANSWER_BYTES).decode(errors="replace")
        except TimeoutError:
            return "error no answer in time"
        except OSError as error:
            return f"error {error}"
        said = self._messages.read(400).decode(errors="replace").strip()
        return answer or f"error it ended without an answer: {said or 'no message'}"

    def abort(self) -> None:
        """End what runs, from another thread; :meth:`run` then raises."""
        try:
            self._control.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed in the meantime, which is what was wanted
            return

    def close(self) -> None:
        """End the sandbox and wait for its end, which closes the last other end of the socket."""
        try:
            self._control.shutdown(socket.SHUT_WR)
            self._control.settimeout(_GRACE_S)
            while self._control.recv(_ANSWER_BYTES):
                pass
        except OSError:  # it is gone already, or hangs: then the launcher ends it
            pass
        finally:
            self._control.close()


def _inputs(command: Command) -> list[Blob]:
    """List the blobs to open: standard input, the program where there is one, the files."""
    program = [] if command.program is None else [command.program]
    return [command.stdin or Blob("nothing"), *program, *command.files.values()]


def _request(command: Command, limits: Limits) -> bytes:
    """Spell the request; supervisor/main.cpp describes it."""
    rss = [] if limits.memory_kib is None else [f"rss={limits.memory_kib * 1024}"]
    texts = [
        f"cpu={limits.cpu_ms}",
        f"wall={limits.wall_ms}",
        *rss,
        f"as={limits.address_space_bytes}",
        f"stack={limits.stack_bytes}",
        f"fsize={limits.file_bytes}",
        f"nproc={limits.processes}",
        f"program={int(command.program is not None)}",
        *(f"copy={name}" for name in command.files),
        "--",
        *command.argv,
    ]
    return "".join(f"{text}\0" for text in texts).encode()


def _report(parts: Sequence[str], stdout: Blob, stderr: Blob, limits: Limits) -> RunReport:
    """Turn the supervisor's answer into a report."""
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
