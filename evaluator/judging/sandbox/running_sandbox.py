"""A sandbox that is running: a process, and a socket to the supervisor in it.

Only the tests of one program share a sandbox, as long as each leaves it clean: it ended by itself
and left no process and no file. A sandbox takes some 10 ms to build, a command 1 ms.
"""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import cast

from evaluator.errors import SandboxError
from evaluator.judging.sandbox.command import Command, Limits, MemoryFile, Reason, RunReport

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/box"}
_ENVIRONMENT["ONLINE_JUDGE"] = "1"  # some programs ask for it, others for the macro
_STDERR_BYTES = 64 << 10
_ANSWER_BYTES = 1024
_GRACE_S = 20.0


class RunningSandbox:
    """One sandbox, started at once and ready when its first command is run.

    Args:
        argv: The command line that starts the supervisor behind the walls.
        supervisor: By its descriptor part of the command line.
        program: The program that alone may run here, or None for a command of the system.
        limits: Of the first command; the size of the private folder and ``contest`` stay.
    """

    def __init__(
        self,
        argv: Sequence[str],
        supervisor: MemoryFile,
        program: MemoryFile | None,
        limits: Limits,
    ) -> None:
        self._program = program
        self._limits = limits
        self._messages = MemoryFile("messages")  # complaints of the tools that build the sandbox
        self._ready = self.clean = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # Without a user= or a preexec_fn this is a vfork: nothing of the judge is copied.
            self._process = subprocess.Popen(
                argv,
                stdin=theirs.fileno(),
                stdout=self._messages.fd,
                stderr=self._messages.fd,
                pass_fds=(supervisor.fd,),
                cwd="/",
                umask=0o077,
                env=_ENVIRONMENT,
                start_new_session=True,  # no controlling terminal, and no Ctrl-C from it
            )
        except OSError as error:
            self._control.close()
            raise SandboxError(f"{argv[0]} cannot be started: {error}") from error
        finally:
            theirs.close()

    def suits(self, command: Command, limits: Limits) -> bool:
        """Whether a command may be run here."""
        return (
            self.clean
            and self._program is not None
            and self._program is command.program
            and self._limits.contest == limits.contest
            and self._limits.box_bytes >= limits.box_bytes
        )

    def run(self, command: Command, limits: Limits) -> RunReport:
        """Run a command to its end; where the sandbox fails, the command is not to blame."""
        if not self._ready:
            self._control.settimeout(_GRACE_S)
            if (greeting := self._receive()) != "ready":
                raise SandboxError(f"the sandbox cannot be built: {greeting}")
            self._ready = True
        self.clean = False
        stdout, stderr = MemoryFile("stdout"), MemoryFile("stderr")
        program = [] if command.program is None else [command.program]
        files = [command.stdin or MemoryFile.of(b""), *program, *command.files.values()]
        stdin, *others = [file.reopen() for file in files]
        try:
            self._control.settimeout(10 * limits.wall_ms / 1000 + _GRACE_S)
            fds = [stdin, stdout.fd, stderr.fd, *others]
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
        exit_code, ended_by, cpu_us, wall_us, memory = (int(parts[i]) for i in (0, 1, 3, 4, 5))
        self.clean = parts[2] == "exit" and parts[6] == "1"
        return RunReport(
            exit_code=None if ended_by else exit_code,
            signal=ended_by or None,
            reason=cast("Reason", parts[2]),
            cpu_ms=cpu_us / 1000,
            wall_ms=wall_us / 1000,
            memory_kib=memory,
            stdout=stdout.read(),
            stderr=stderr.read(_STDERR_BYTES),
            output_full=max(len(stdout), len(stderr)) >= limits.file_bytes,
        )

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
        with contextlib.suppress(OSError):  # closed in the meantime, which is what was wanted
            self._control.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the sandbox and wait for its end."""
        with contextlib.suppress(OSError):  # it is gone already, or hangs
            self._control.shutdown(socket.SHUT_WR)
            self._control.settimeout(_GRACE_S)
            while self._control.recv(_ANSWER_BYTES):
                pass
        self._control.close()
        try:
            self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _request(command: Command, limits: Limits) -> bytes:
    """Spell the request; supervisor/main.cpp describes it."""
    settings = {
        "cpu": limits.cpu_ms,
        "wall": limits.wall_ms,
        "as": limits.address_space_bytes,
        "stack": limits.stack_bytes,
        "fsize": limits.file_bytes,
        "nproc": limits.processes,
        "program": int(command.program is not None),
    }
    if limits.memory_kib is not None:
        settings["rss"] = limits.memory_kib * 1024
    texts = [f"{key}={value}" for key, value in settings.items()]
    texts += [f"copy={name}" for name in command.files]
    return "".join(f"{text}\0" for text in (*texts, "--", *command.argv)).encode()
