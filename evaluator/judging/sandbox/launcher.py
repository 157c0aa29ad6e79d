"""The small process that starts the sandboxes of one worker of the judge.

It runs as ``python -I -S launcher.py UID GID``, with a socket to the judge as standard input, and
imports nothing beyond the standard library, because a process forked from the judge itself (which
may hold a model) would be charged with the judge's memory. As root it becomes another user first,
so that process limits bind.

A request is one SEQPACKET message: JSON ``{"argv": [...], "env": {...}}`` and the file
descriptors that the sandbox gets as 0, 1, 2, ... The answer, given as soon as it is started, is
JSON ``{}`` or ``{"error": str}``. When the judge goes away the socket closes, and all sandboxes
end: by themselves, because their own sockets to the judge close too, or else by force.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time

_MAX_REQUEST = 1 << 17
_MAX_FDS = 32
_CLEAN_UP_S = 0.5
_HIGH_FD = 200  # received descriptors are moved up here, away from the sandbox's own numbers


def main() -> None:
    """Serve requests until the judge closes its end."""
    channel = socket.socket(fileno=0)
    _become(int(sys.argv[1]), int(sys.argv[2]))
    channel.send(b"{}")
    running: dict[int, int] = {}  # descriptor that becomes readable at the end -> process
    while True:
        ready, _, _ = select.select([channel.fileno(), *running], [], [])
        _reap(running, [fd for fd in ready if fd in running])
        if channel.fileno() not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(channel, _MAX_REQUEST, _MAX_FDS)
        if not message:
            _end(running)
            return
        try:
            pid = _start(json.loads(message), _move_up(fds))
            running[os.pidfd_open(pid)] = pid
            answer = {}
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
    """Move descriptors out of the range that the sandbox's own will take."""
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for fd in fds]
    for fd in fds:
        os.close(fd)
    return moved


def _start(request: dict[str, object], fds: list[int]) -> int:
    """Start one sandbox in a process group of its own."""
    argv = [str(part) for part in _list(request["argv"])]
    env = {str(k): str(v) for k, v in _dict(request["env"]).items()}
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(fds)]
        return os.posix_spawn(argv[0], argv, env, file_actions=actions, setpgroup=0)
    finally:
        for fd in fds:
            os.close(fd)


def _reap(running: dict[int, int], ended: list[int]) -> None:
    """Take note of sandboxes that have ended."""
    for fd in ended:
        os.waitpid(running.pop(fd), 0)
        os.close(fd)


def _end(running: dict[int, int]) -> None:
    """Let the sandboxes end, which lets their supervisors clean up, then kill what is left."""
    deadline = time.monotonic() + _CLEAN_UP_S
    while running and (left := deadline - time.monotonic()) > 0:
        _reap(running, select.select(list(running), [], [], left)[0])
    for pid in running.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _reap(running, list(running))


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
