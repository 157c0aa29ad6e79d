"""Runs a command in a process of its own and watches its time and memory from outside.

Linux only: reads ``/proc/<pid>/status``. ``RssAnon`` is memory that the process alone holds and the
kernel cannot take back; the rest of the resident set is pages of mapped files, which are cache and
can be dropped at any time.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS_BETWEEN_SAMPLES = 0.02
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Usage:
    """What a process took.

    Attributes:
        seconds: Wall time from start to end, interpreter start included.
        anon: Largest ``RssAnon`` seen, in bytes.
        rss: Largest resident set in bytes, mapped files included (the kernel's own ``VmHWM``).
    """

    seconds: float
    anon: int
    rss: int


def watch(command: Sequence[str], threads: int) -> Usage:
    """Run a command from the repository's root and wait for it.

    Args:
        command: Program and arguments.
        threads: ``OMP_NUM_THREADS`` of the process.

    Raises:
        subprocess.CalledProcessError: It failed; its output is on stderr.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=sys.stderr) as process:
        sampler = _Sampler(process.pid)
        sampler.start()
        code = process.wait()
        seconds = time.perf_counter() - start
        sampler.end()
    if code:
        raise subprocess.CalledProcessError(code, list(command))
    return Usage(seconds, sampler.anon, sampler.rss)


def baseline(modules: Sequence[str], threads: int) -> Usage:
    """Memory and time of an interpreter that imports some modules and does nothing else."""
    imports = "; ".join(f"import {name}" for name in modules)
    # it stays for a moment, so that the last sample sees it with everything imported
    usage = watch([sys.executable, "-c", f"{imports}; import time; time.sleep(0.5)"], threads)
    return Usage(usage.seconds - 0.5, usage.anon, usage.rss)


class _Sampler(threading.Thread):
    """Polls a process until it is gone."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self.anon = self.rss = 0

    def run(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_SAMPLES):
            try:
                lines = self._status.read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                return
            found = {name: rest.split() for name, _, rest in (x.partition(":") for x in lines)}
            if "VmHWM" in found:  # a process that has ended and was not yet waited for has none
                self.anon = max(self.anon, int(found["RssAnon"][0]) * 1024)
                self.rss = max(self.rss, int(found["VmHWM"][0]) * 1024)

    def end(self) -> None:
        self._over.set()
        self.join()
