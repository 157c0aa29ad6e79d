"""Runs a command in a process of its own and watches its time and memory from outside.

Linux only: reads ``/proc/<pid>/status``. ``RssAnon`` is memory that the process alone holds and the
kernel cannot take back; the rest of the resident set is pages of mapped files, which are cache and
can be dropped at any time.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT

_SECONDS_BETWEEN_SAMPLES = 0.02


@dataclass(frozen=True)
class Usage:
    """Seconds from start to end; largest ``RssAnon`` and resident set (``VmHWM``) in bytes."""

    seconds: float
    private: int
    resident: int


def watch(command: Sequence[str], threads: int) -> Usage:
    """Run a command from the repository's root with so many threads and wait for it.

    Raises:
        subprocess.CalledProcessError: It failed; its output is on stderr.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    private = resident = 0
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=sys.stderr) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = status.read_text().splitlines()
            found = {name: rest.split() for name, _, rest in (x.partition(":") for x in lines)}
            if "VmHWM" in found:  # a process that has ended and was not yet waited for has none
                private = max(private, int(found["RssAnon"][0]) * 1024)
                resident = max(resident, int(found["VmHWM"][0]) * 1024)
            time.sleep(_SECONDS_BETWEEN_SAMPLES)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return Usage(seconds, private, resident)


def merge(model: Path, base: Path, out: Path, *options: str) -> list[str]:
    """``tinylora-export merge`` of a model of benchmarks.random_base, with factors stored."""
    paths = ("--base", base, "--artifact", model / "tiny_lora_v.pt", "--out", out)
    store = ("--factor-store", model / "factors", "--overwrite")
    return [sys.executable, "-m", "exporter", "merge", *map(str, paths + store), *options]
