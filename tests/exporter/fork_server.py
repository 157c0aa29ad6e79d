"""Starts exports as real processes within milliseconds, so that many of them can be killed.

Run as ``python fork_server.py``: libraries are imported once, and each line (JSON) read is an
export made by a forked child. Its number is printed and, after a further line was read and the
child has ended, its wait status.
"""

import json
import os
import signal
import sys
from pathlib import Path

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


def child(line):
    from exporter import ExportRequest, export, publish

    fields = json.loads(line)
    if fields.pop("no_swap", False):
        publish._swap = lambda a, b: False
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


def main():
    import logging

    import torch

    import exporter.export  # noqa: F401  (children find everything imported)

    torch.set_num_threads(1)
    logging.getLogger("exporter").setLevel(logging.ERROR)
    child(sys.stdin.readline())  # libraries load parts of themselves on first use
    print("ready", flush=True)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            try:
                child(line)
                os._exit(0)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(3)
        print(pid, flush=True)
        sys.stdin.readline()  # until then the number stays the child's own, dead or alive
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
