"""Time and peak memory of exports of a checkpoint with the shape of Qwen2.5-Coder-3B.

    python -m benchmarks.random_base --shape qwen2.5-coder-3b --out DIR
    python -m benchmarks.export_memory --model DIR

Each export is ``tinylora-export merge`` in a process of its own. The first one computes the factors
and fills DIR/factors, the others take them from there. Writes results/scale/export_memory.md.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.watch import Usage, watch

CLI = "from exporter.cli import app; app()"
# everything that an export of a Qwen2 checkpoint imports
LIBRARIES = ("exporter.cli", "bitsandbytes", "transformers.models.qwen2.modeling_qwen2")


@dataclass(frozen=True)
class Export:
    """One measured export; sizes in bytes."""

    format: str
    factors: str
    usage: Usage
    written: int


def run_export(model: Path, format_: str, threads: int) -> Export:
    """Merge the model's artifact into its base, measure, and remove the output."""
    out, store = model / f"out-{format_}", model / "factors"
    stored = store.is_dir() and any(store.iterdir())
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
    shutil.rmtree(out)
    return Export(format_, "stored" if stored else "computed", usage, written)


def table(exports: list[Export], libraries: Usage) -> str:
    """Markdown rows; memory beyond that of the interpreter and libraries."""
    lines = [
        "| format | factors | threads | wall s | written GB | beyond libraries: private MB | "
        "with mapped files MB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for export, _threads in exports:
        usage = export.usage
        cells = [
            export.format,
            export.factors,
            f"{usage.seconds:.1f}",
            f"{export.written / 1e9:.2f}",
            f"{(usage.anon - libraries.anon) / 1e6:.0f}",
            f"{(usage.rss - libraries.rss) / 1e6:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
