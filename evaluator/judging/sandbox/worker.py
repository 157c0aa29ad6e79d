"""Runs commands one after the other, each in a sandbox that suits it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from evaluator.errors import SandboxError
from evaluator.judging.sandbox.command import Command, Limits, MemoryFile, RunReport
from evaluator.judging.sandbox.running_sandbox import RunningSandbox

_KEPT = 2  # sandboxes that wait for their next command: a program's and its special judge's
_SPARE_BYTES = 1 << 20  # so that the files of the next test fit too where they are not much larger


class SandboxWorker:
    """Runs commands one after the other; not for use by several threads at once.

    A program finds the sandbox that its last run left clean; anything else gets a new one.
    """

    def __init__(
        self, command_line: Callable[[Limits], Sequence[str]], supervisor: MemoryFile
    ) -> None:
        self._command_line = command_line
        self._supervisor = supervisor
        self._kept: list[RunningSandbox] = []  # the last used stands last
        self._current: RunningSandbox | None = None
        self._aborted = False

    def __enter__(self) -> "SandboxWorker":
        return self

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

    def _sandbox_for(self, command: Command, limits: Limits, spare_bytes: int) -> RunningSandbox:
        """Find the sandbox of a command, or start one with some space for larger files."""
        for sandbox in self._kept:
            if sandbox.suits(command, limits):
                self._kept.remove(sandbox)
                return sandbox
        limits = replace(limits, box_bytes=limits.box_bytes + spare_bytes)
        argv = self._command_line(limits)
        return RunningSandbox(argv, self._supervisor, command.program, limits)

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
