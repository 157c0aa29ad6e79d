"""Runs commands one after the other, each in a sandbox that suits it.

A sandbox is a process, and a socket to the supervisor in it. Only the tests of one program share
one, as long as each leaves it clean: it ended by itself and left no process and no file. A sandbox
takes some 10 ms to build, a command 1 ms.
"""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from evaluator.errors import SandboxError
from evaluator.judging.sandbox.command import Command, Limits, MemoryFile, Reason, RunReport

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/box"}
_ENVIRONMENT["ONLINE_JUDGE"] = "1"  # some programs ask for it, others for the macro
_STDERR_BYTES = 64 << 10
_ANSWER_BYTES = 1024
_GRACE_S = 20.0
_KEPT = 2  # sandboxes that wait for their next command: a program's and its special judge's
_SPARE_BYTES = 1 << 20  # so that the files of the next test fit too where they are not much larger


class _RunningSandbox:
    """One sandbox, started at once by a command line and ready when its first command is run.

    The ``program`` alone may run here; None stands for a command of the system. Of the first
    command's limits the size of the private folder and ``contest`` stay.
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
    memory = (1 << 63) - 1 if limits.memory_kib is None else limits.memory_kib * 1024
    numbers = [limits.cpu_ms, limits.wall_ms, memory, limits.address_space_bytes]
    numbers += [limits.stack_bytes, limits.file_bytes, limits.processes]
    numbers += [command.program is not None, len(command.files)]
    texts = (" ".join(str(int(n)) for n in numbers), *command.files, *command.argv)
    return "".join(f"{text}\0" for text in texts).encode()


class SandboxWorker(contextlib.AbstractContextManager["SandboxWorker"]):
    """Runs commands one after the other; not for use by several threads at once.

    A program finds the sandbox that its last run left clean; anything else gets a new one.
    """

    def __init__(
        self, command_line: Callable[[Limits], Sequence[str]], supervisor: MemoryFile
    ) -> None:
        self._command_line = command_line
        self._supervisor = supervisor
        self._kept: list[_RunningSandbox] = []  # the last used stands last
        self._current: _RunningSandbox | None = None
        self._aborted = False

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, command: Command, limits: Limits) -> RunReport:
        """Run a command to its end; where the sandbox fails, the command is not to blame."""
        files = sum(map(len, command.files.values()))
        limits = replace(limits, box_bytes=limits.box_bytes + files)
        try:
            self._current = sandbox = self._sandbox_for(command, limits, files + _SPARE_BYTES)
            if self._aborted:  # abort() sets it before it looks for the current sandbox
                raise SandboxError("the judge was told to stop")
            report = sandbox.run(command, limits)
        except SandboxError:
            self.close()  # whatever it was, the next command starts from nothing
            raise
        except OSError as error:  # no descriptor, no process, no memory left
            self.close()
            raise SandboxError(f"the sandbox cannot be used ({error})") from error
        self._current = None
        if not (sandbox.clean and command.program is not None):
            sandbox.close()
            return report
        self._kept.append(sandbox)
        if len(self._kept) > _KEPT:
            self._kept.pop(0).close()
        return report

    def _sandbox_for(self, command: Command, limits: Limits, spare_bytes: int) -> _RunningSandbox:
        """Find the sandbox of a command, or start one with some space for larger files."""
        for sandbox in self._kept:
            if sandbox.suits(command, limits):
                self._kept.remove(sandbox)
                return sandbox
        limits = replace(limits, box_bytes=limits.box_bytes + spare_bytes)
        argv = self._command_line(limits)
        return _RunningSandbox(argv, self._supervisor, command.program, limits)

    def abort(self) -> None:
        """End the running command from another thread; :meth:`run` then raises."""
        self._aborted = True
        if (sandbox := self._current) is not None:
            sandbox.abort()

    def close(self) -> None:
        """End all sandboxes."""
        sandboxes = [*self._kept, *([] if self._current is None else [self._current])]
        self._kept, self._current = [], None
        for sandbox in sandboxes:
            sandbox.abort()
        for sandbox in sandboxes:
            sandbox.close()
