"""Programs and machines for a judge: signals from outside, a sandbox that reports otherwise."""

import contextlib
import os
import threading
import time
from pathlib import Path

from evaluator.judging.sandbox.command import Limits

LIMITS = Limits(1000, 3000, 256 << 10, 4 << 30, 64 << 20, 1 << 20)


@contextlib.contextmanager
def signalled(name, number, times=1):
    """Send a signal to the first processes below this one whose first argument ends so."""
    stop = threading.Event()
    hit = set()

    def look():
        while len(hit) < times and not stop.is_set():
            for pid in descendants(os.getpid()):
                if pid not in hit and len(hit) < times and first_argument(pid).endswith(name):
                    os.kill(pid, number)
                    hit.add(pid)
            time.sleep(0.001)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield hit
    finally:
        stop.set()
        thread.join()


def descendants(pid):
    """Processes below one."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def first_argument(pid):
    """Of the command line; empty when it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
    return ""


class ChangedSandbox:
    """A sandbox that notes its commands, and reports them as ``change`` says."""

    def __init__(self, sandbox, change=lambda command, report, number: report):
        self.sandbox, self.change, self.ran = sandbox, change, []

    def worker(self):
        worker = self.sandbox.worker()
        run = worker.run

        def changed(command, limits):
            number = len(self.ran)
            self.ran.append(command)
            return self.change(command, run(command, limits), number)

        worker.run = changed
        return worker


def burn(ms):
    """A program that uses an amount of CPU time, and prints ``ok``."""
    loop = f"while (clock() < {ms} * (CLOCKS_PER_SEC / 1000)) {{}}"
    return f'#include <cstdio>\n#include <ctime>\nint main() {{ {loop} puts("ok"); }}\n'
