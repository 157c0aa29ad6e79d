"""How long commands take to answer

    python -m benchmarks.start

Whole processes, one after the other in turn, each after one that was not counted; medians. CPU is
user and system time of the process, which other programs on the machine change less than the wall
time. `import torch` is what the reading of a `.pt` file cannot do without.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import ROOT, median, parser, table, write_page

BIN = Path(sys.executable).parent
COMMANDS = {
    "tinylora-export --help": (BIN / "tinylora-export", "--help"),
    "tinylora-export --version": (BIN / "tinylora-export", "--version"),
    "tinylora-eval --help": (BIN / "tinylora-eval", "--help"),
    "tinylora-export inspect": (BIN / "tinylora-export", "inspect", "demo/tiny_lora_v.pt"),
    "python -c 'import torch' (limit)": (BIN / "python", "-c", "import torch"),
}


def measured(command: tuple[Path | str, ...]) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system
    return wall, cpu - before.children_user - before.children_system


def main() -> None:
    options = parser(__doc__, "bench/start.md", rounds=5).parse_args()
    found = {name: list[tuple[float, float]]() for name in COMMANDS}
    for number in range(options.rounds + 1):
        for name, command in COMMANDS.items():
            seconds = measured(command)
            found[name] += [seconds] if number else []
    rows = [
        (f"`{name}`", f"{median(w for w, _ in pairs):.2f}", f"{median(c for _, c in pairs):.2f}")
        for name, pairs in found.items()
    ]
    busy = f"Load of the machine meanwhile (1 minute): {os.getloadavg()[0]:.1f}."
    write_page(options.out, __doc__, table(("command", "wall s", "CPU s"), rows), busy)


if __name__ == "__main__":
    main()
