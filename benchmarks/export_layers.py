"""Does the memory of an export grow with the number of layers?

    python -m benchmarks.export_layers

Random bases of one width and 4, 16 and 64 layers, made in a temporary directory, each exported by
``tinylora-export merge`` in a process of its own: with every SVD to compute, and again with factors
stored. The peak of one run depends on which modules meet, so the median of some rounds counts.
Writes results/scale/export_layers.md.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.export_memory import CLI
from benchmarks.measure import machine, word
from benchmarks.random_base import write_artifact, write_base
from benchmarks.watch import Usage, watch

SHAPE = "narrow"
SHARD_BYTES = 1 << 28
WANTED = 1.1


def export(model: Path, format_: str, threads: int) -> Usage:
    """Merge the model's artifact and watch."""
    options = {
        "--base": model / "base",
        "--artifact": model / "tiny_lora_v.pt",
        "--factor-store": model / "factors",
        "--format": format_,
        "--out": model / "out",
    }
    arguments = [str(part) for option in options.items() for part in option]
    return watch([sys.executable, "-c", CLI, "merge", *arguments, "--overwrite"], threads)


def row(layers: int, way: str, found: Sequence[Usage], first: Sequence[Usage]) -> str:
    """One line: median peaks, and their ratio to those of the fewest layers."""
    private, resident = _median(found, "anon"), _median(found, "rss")
    every = " ".join(f"{usage.anon / 1e6:.0f}" for usage in found)
    cells = [str(layers), way, f"{_median(found, 'seconds'):.1f}", f"{private / 1e6:.0f}", every]
    cells += [f"{private / _median(first, 'anon'):.3f}"]
    cells += [f"{resident / 1e6:.0f}", f"{resident / _median(first, 'rss'):.3f}"]
    return f"| {' | '.join(cells)} |"


def _median(found: Sequence[Usage], part: str) -> float:
    return statistics.median(getattr(usage, part) for usage in found)


def measure(
    work: Path, counts: Sequence[int], shape: str, threads: int, rounds: int
) -> tuple[list[str], float]:
    """Rows of all counts of layers and ways, and the largest ratio of peaks."""
    first: dict[str, list[Usage]] = {}
    rows, largest = [], 1.0
    for layers in counts:
        model = work / str(layers)
        architecture = write_base(shape, model / "base", SHARD_BYTES, layers)
        write_artifact(model / "tiny_lora_v.pt", len(architecture.targets), f"random/{layers}")
        found: dict[str, list[Usage]] = {"nf4, SVDs": [], "nf4": [], "bf16": []}
        for _ in range(rounds):
            shutil.rmtree(model / "factors", ignore_errors=True)
            for way, usages in found.items():
                usages.append(export(model, way.partition(",")[0], threads))
        for way, usages in found.items():
            fewest = first.setdefault(way, usages)
            rows.append(row(layers, way, usages, fewest))
            for part in ("anon", "rss"):
                largest = max(largest, _median(usages, part) / _median(fewest, part))
        shutil.rmtree(model)
    return rows, largest


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--shape", default=SHAPE)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/scale/export_layers.md"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="export-layers-") as work:
        rows, largest = measure(Path(work), args.layers, args.shape, args.threads, args.rounds)
    header = (
        "layers",
        "export",
        "s",
        "private MB",
        "every run",
        "of the fewest",
        "resident MB",
        "of the fewest",
    )
    lines = [
        "# Memory of exports over the number of layers",
        "",
        f"`python -m benchmarks.export_layers --threads {args.threads} --rounds {args.rounds}` on "
        f"{machine()}; layers of hidden size 512 and intermediate size 2816, a 16-bit base in "
        "shards of 268 MB. Medians of the peaks of the whole process: private `RssAnon`, resident "
        "`VmHWM`.",
        "",
        f"| {' | '.join(header)} |",
        "| ---: | --- | " + " | ".join(["---:"] * (len(header) - 2)) + " |",
        *rows,
        "",
        f"At most {largest:.3f} × the fewest layers' peak "
        f"(wanted ≤ {WANTED:g}: {word(largest <= WANTED)}).",
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
