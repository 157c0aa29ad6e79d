"""Running one command at a time in sandboxes, which a launcher process starts.

``SandboxWorker -> launcher.py -> bwrap | unshare | nothing -> supervisor -> the command``. The
launcher keeps the judge's own memory out of what is measured, the supervisor (supervisor/main.cpp)
enforces the limits from inside and reports what the command alone has used. The worker talks with
the supervisor directly: the launcher is asked only for a new sandbox.
"""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from evaluator.errors import SandboxError
from evaluator.judging.sandbox.blob import Blob
from evaluator.judging.sandbox.command import Command, Limits, RunReport
from evaluator.judging.sandbox.room import Room

# Nobody's account, so that RLIMIT_NPROC binds and no file belongs to it; below 2**16 for
# containers that map only so many ids.
SANDBOX_UID = 64999

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/box"}
_ENVIRONMENT["ONLINE_JUDGE"] = "1"  # some programs ask for it, others for the macro
_ROOMS = 2  # kept for their next command: a program and the special judge of its problem

_SPARE_BYTES = 1 << 20  # so that the files of the next test fit too where they are not much larger


class SandboxWorker:
    """Runs commands one after the other; not for use by several threads at once.

    A program finds the room that its last run left clean, or a new one; anything else gets a
    new one each time.

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
        self._rooms: list[Room] = []  # the last used stands last
        self._current: Room | None = None
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
        try:
            room = self._room(command, limits, spare_bytes=files + _SPARE_BYTES)
            report = room.run(command, limits)
        except SandboxError:
            self.close()  # whatever it was, the next command starts from nothing
            raise
        except OSError as error:  # no descriptor, no process, no memory left
            self.close()
            raise SandboxError(f"the sandbox cannot be used ({error})") from error
        self._current = None
        self._keep(room) if room.clean and command.program is not None else room.close()
        return report

    def _room(self, command: Command, limits: Limits, spare_bytes: int) -> Room:
        """Find the room of a command, or have one built with some space for larger files."""
        for room in self._rooms:
            if room.suits(command, limits):
                self._rooms.remove(room)
                self._enter(room)
                return room
        limits = replace(limits, box_bytes=limits.box_bytes + spare_bytes)
        messages = Blob("messages")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        room = Room(ours, messages, command.program, limits)
        with theirs:
            self._enter(room)
            self._launch(limits, messages, theirs)
        room.wait_until_ready()
        return room

    def _enter(self, room: Room) -> None:
        """Say which room :meth:`abort` has to end; it sets the flag before it looks."""
        self._current = room
        if self._aborted:
            raise SandboxError("the judge was told to stop")

    def _keep(self, room: Room) -> None:
        """Keep a room for the next command; the one that was used longest ago makes way."""
        self._rooms.append(room)
        while len(self._rooms) > _ROOMS:
            self._rooms.pop(0).close()

    def _launch(self, limits: Limits, messages: Blob, control: socket.socket) -> None:
        """Have the launcher start a sandbox; descriptors as the supervisor expects them."""
        nothing = Blob("nothing")
        supervisor = ["/proc/self/fd/4", f"root={self._root}", f"dev={','.join(limits.devices)}"]
        folder = [f"box={limits.box_bytes}", f"streams={int(limits.streams)}"]
        argv = [*self._prefix(limits), *supervisor, *folder]
        fds = [nothing.fd, messages.fd, messages.fd, control.fileno(), self._supervisor.fd]
        request = {"argv": argv, "env": _ENVIRONMENT}
        channel = self._channel or self._start()
        try:
            socket.send_fds(channel, [json.dumps(request).encode()], fds)
            message = channel.recv(1 << 16)
        except OSError as error:
            raise SandboxError(f"the launcher is gone ({error})") from error
        if not message:
            raise SandboxError("the launcher ended without an answer")
        try:
            answer = json.loads(message)
        except ValueError as error:
            raise SandboxError(f"the launcher answers {message[:80]!r}") from error
        if "error" in answer:
            raise SandboxError(f"{argv[0]} cannot be started: {answer['error']}")

    def _start(self) -> socket.socket:
        """Start the launcher and wait for its greeting."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        script = Path(__file__).with_name("launcher.py")
        identity = [str(SANDBOX_UID), str(SANDBOX_UID)]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), *identity],
                # a number that every sandbox gets anew, so that none inherits this end
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # no controlling terminal, and no Ctrl-C from it
                env={},
            )
        self._channel = ours
        if not ours.recv(64):
            raise SandboxError(f"the launcher {script} does not start with {sys.executable}")
        return ours

    def abort(self) -> None:
        """End the running command from another thread; :meth:`run` then raises."""
        self._aborted = True
        room = self._current
        if room is not None:
            room.abort()
        channel = self._channel
        if channel is not None:
            try:
                channel.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed in the meantime, which is what was wanted
                return

    def close(self) -> None:
        """End all sandboxes and the launcher."""
        rooms = [*self._rooms, *([] if self._current is None else [self._current])]
        self._rooms, self._current = [], None
        for room in rooms:
            room.abort()
            room.close()
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
