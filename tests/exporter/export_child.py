"""One export, as ``tests/fork_server.py`` has it made by a process of its own."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from exporter import ExportRequest, export

logging.getLogger("exporter").setLevel(logging.ERROR)

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
# what a process does to files, as the interpreter announces it before it happens
CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})


def count_changes(kill_at, report):
    """Count changes of files; SIGKILL oneself just before number ``kill_at`` happens."""
    done = 0

    def hook(event, arguments):
        nonlocal done
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event not in CHANGES and not writes:
            return
        done += 1
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if report is not None:
            os.pwrite(report, f"{done}\n".encode(), 0)

    sys.addaudithook(hook)


def child(fields):
    if "arguments" in fields:
        command_line(**fields)
    stop_at = fields.pop("stop_at", None)
    kill_at, report = fields.pop("kill_at", None), fields.pop("report", None)
    if kill_at is not None or report is not None:
        handle = None if report is None else os.open(report, os.O_WRONLY | os.O_CREAT)
        count_changes(kill_at, handle)
    for name in ("base", "artifact", "out"):
        fields[name] = Path(fields[name])

    def progress(step):
        if step.done == stop_at:
            os.kill(os.getpid(), signal.SIGSTOP)

    export(ExportRequest(**fields), progress)


def command_line(disk, size, read_only, stderr, arguments):
    """The command line, with a small tmpfs at ``disk``; exit status 77 where that cannot be."""
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
    os.environ["COLUMNS"] = "1000"
    user, group, libc = os.getuid(), os.getgid(), ctypes.CDLL(None)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
        os._exit(77)
    try:
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError:  # a security module lets nobody be root even there
        os._exit(77)
    made = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]
    if subprocess.run(made, check=False).returncode != 0:
        os._exit(77)
    if read_only:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    from exporter.cli import app

    try:
        app(arguments)
    except SystemExit as end:
        os._exit(end.code)
