"""Time and peak memory of exports of a checkpoint with the shape of Qwen2.5-Coder-3B.

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR
    python -m benchmarks.export_memory --model DIR

Each export is ``tinylora-export merge`` in a process of its own. The first one computes the factors
(that takes long) and fills DIR/factors, the others take them from there.
Writes results/scale/export_memory.md.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import machine
from benchmarks.watch import Usage, baseline, watch

CLI = "from exporter.cli import app; app()"
# the first export imports transformers too, to ask what modules the base has, and keeps the answer
LIBRARIES = ("exporter.cli",)


@dataclass(frozen=True)
class Export:
    """One measured export; sizes in bytes."""

    format: str
    computed: int
    modules: int
    usage: Usage
    written: int


def run_export(model: Path, format_: str, threads: int) -> Export:
    """Merge the model's artifact into its base, measure, and remove the output."""
    out, store = model / f"out-{format_}", model / "factors"
    before = len(list(store.glob("*.safetensors")))
    options = {
        "--base": model / "base",
        "--artifact": model / "tiny_lora_v.pt",
        "--factor-store": store,
        "--format": format_,
        "--out": out,
    }
    arguments = [str(part) for option in options.items() for part in option]
    usage = watch([sys.executable, "-c", CLI, "merge", *arguments, "--overwrite"], threads)
    written = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    modules = len(json.loads((out / "export_manifest.json").read_text())["targets"])
    computed = len(list(store.glob("*.safetensors"))) - before
    shutil.rmtree(out)
    return Export(format_, computed, modules, usage, written)


def table(exports: Sequence[Export], libraries: Usage) -> str:
    """Markdown rows; memory beyond that of the interpreter and libraries."""
    lines = [
        "| format | factors | wall s | written GB | private MB | resident MB |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for export in exports:
        cells = [
            export.format,
            f"{export.computed} of {export.modules} computed",
            f"{export.usage.seconds:.1f}",
            f"{export.written / 1e9:.2f}",
            f"{(export.usage.anon - libraries.anon) / 1e6:.0f}",
            f"{(export.usage.rss - libraries.rss) / 1e6:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="made by benchmarks.random_base")
    parser.add_argument("--formats", nargs="+", default=["nf4", "nf4", "bf16"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("results/scale/export_memory.md"))
    args = parser.parse_args()
    model = args.model.resolve()
    libraries = baseline(LIBRARIES, args.threads)
    exports = [run_export(model, format_, args.threads) for format_ in args.formats]
    text = [
        "# Memory of exports of a large checkpoint",
        "",
        f"`python -m benchmarks.export_memory --model {model.name} --threads {args.threads}` on "
        f"{machine()}; {args.threads} thread(s).",
        "",
        "Peak memory beyond that of an interpreter that has imported the exporter and its "
        f"libraries ({libraries.anon / 1e6:.0f} MB private, {libraries.rss / 1e6:.0f} MB "
        "resident). Private: `RssAnon`, sampled every 20 ms. Resident: `VmHWM`, which counts the "
        "pages of mapped files too.",
        "",
        table(exports, libraries),
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(text))
    print(args.out.read_text())


if __name__ == "__main__":
    main()
