"""Does the memory of an export grow with the number of layers?

    python -m benchmarks.export_layers

Random bases of one width and 4, 16 and 64 layers, made in a temporary directory, each exported by
``tinylora-export merge`` in a process of its own: with every SVD to compute, and again with factors
stored. Writes results/scale/export_layers.md.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.export_memory import CLI
from benchmarks.measure import machine
from benchmarks.random_base import write_artifact, write_base
from benchmarks.watch import Usage, watch

SHAPE = "narrow"
SHARD_BYTES = 1 << 28


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


def row(layers: int, way: str, usage: Usage, first: Usage) -> str:
    """One line: peaks, and their ratio to those of the fewest layers."""
    cells = [str(layers), way, f"{usage.seconds:.1f}", f"{usage.anon / 1e6:.0f}"]
    cells += [f"{usage.anon / first.anon:.3f}"]
    cells += [f"{usage.rss / 1e6:.0f}", f"{usage.rss / first.rss:.3f}"]
    return f"| {' | '.join(cells)} |"


def measure(work: Path, counts: Sequence[int], shape: str, threads: int) -> list[str]:
    """Rows of all counts of layers and ways."""
    first: dict[str, Usage] = {}
    rows = []
    for layers in counts:
        model = work / str(layers)
        architecture = write_base(shape, model / "base", SHARD_BYTES, layers)
        write_artifact(model / "tiny_lora_v.pt", len(architecture.targets), f"random/{layers}")
        for way, format_ in (("nf4, SVDs", "nf4"), ("nf4", "nf4"), ("bf16", "bf16")):
            usage = export(model, format_, threads)
            rows.append(row(layers, way, usage, first.setdefault(way, usage)))
    return rows


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--shape", default=SHAPE)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("results/scale/export_layers.md"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="export-layers-") as work:
        rows = measure(Path(work), args.layers, args.shape, args.threads)
    header = (
        "layers",
        "export",
        "s",
        "private MB",
        "of the fewest",
        "resident MB",
        "of the fewest",
    )
    lines = [
        "# Memory of exports over the number of layers",
        "",
        f"`python -m benchmarks.export_layers --threads {args.threads}` on {machine()}; layers of "
        "hidden size 512 and intermediate size 2816, a 16-bit base in shards of 268 MB. Peaks of "
        "the whole process: private `RssAnon`, resident `VmHWM`.",
        "",
        f"| {' | '.join(header)} |",
        "| ---: | --- | " + " | ".join(["---:"] * (len(header) - 2)) + " |",
        *rows,
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
