"""The small process that starts every sandbox; one for each worker of the judge.

It runs as ``python -I -S launcher.py SOCKET_FD UID GID`` and imports nothing beyond the standard
library, because a process forked from the judge itself (which may hold a model) would be charged
with the judge's memory. As root it becomes another user first, so that process limits bind.

A request is one SEQPACKET message: JSON ``{"argv": [...], "env": {...}, "timeout_s": float}`` and
the file descriptors that the command gets as 0, 1, 2, ... The answer is JSON
``{"status": wait status, "timed_out": bool}`` or ``{"error": str}``. When the judge goes away the
socket closes, and the command dies with this process.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys

_MAX_REQUEST = 1 << 17
_MAX_FDS = 32
_CLEAN_UP_S = 0.5
_HIGH_FD = 200  # received descriptors are moved up here, away from the command's own numbers


def main() -> None:
    """Serve requests until the judge closes its end."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    _become(int(sys.argv[2]), int(sys.argv[3]))
    channel.send(b"{}")
    while True:
        message, fds, _, _ = socket.recv_fds(channel, _MAX_REQUEST, _MAX_FDS)
        if not message:
            return
        try:
            answer = _serve(channel, json.loads(message), _move_up(fds))
        except OSError as error:
            answer = {"error": str(error)}
        channel.send(json.dumps(answer).encode())


def _become(uid: int, gid: int) -> None:
    """Give up root for another user; an ordinary user stays who it is."""
    os.umask(0o077)
    os.chdir("/")
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def _move_up(fds: list[int]) -> list[int]:
    """Move descriptors out of the range that the command's own will take."""
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for fd in fds]
    for fd in fds:
        os.close(fd)
    return moved


def _serve(channel: socket.socket, request: dict[str, object], fds: list[int]) -> dict[str, object]:
    """Run one command to its end, its timeout, or the end of the judge."""
    argv = [str(part) for part in _list(request["argv"])]
    env = {str(k): str(v) for k, v in _dict(request["env"]).items()}
    timeout_ms = float(str(request["timeout_s"])) * 1000
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(fds)]
        pid = os.posix_spawn(argv[0], argv, env, file_actions=actions, setpgroup=0)
    finally:
        for fd in fds:
            os.close(fd)
    watcher = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(watcher, select.POLLIN)
    poller.register(channel, select.POLLIN)  # nothing is sent meanwhile: only the end of it
    try:
        ready = [fd for fd, _ in poller.poll(timeout_ms)]
        if watcher not in ready:
            _end(pid, watcher)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(watcher)
    if channel.fileno() in ready:
        sys.exit(0)
    return {"status": status, "timed_out": watcher not in ready}


def _end(pid: int, watcher: int) -> None:
    """Ask a command to end, which lets its supervisor clean up, then kill its process group."""
    for wish in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, wish)
        if select.select([watcher], [], [], _CLEAN_UP_S)[0]:
            return


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {value!r}")
    return value


def _dict(value: object) -> dict[object, object]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {value!r}")
    return value


if __name__ == "__main__":
    main()
