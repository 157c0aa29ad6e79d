"""Real models through every format

    make real

Each base is quantized to NF4 as in training. On it a TinyLoRA vector (u 32, rank 2) is trained by
the likelihood of right C++ programs for statements of the demo's training suite, once as `full`
and once as `diagonal`. The `full` one is also scaled to the size of real files (mean |v| 3e-5) and
a power of ten on either side. Every way to ship a vector is made by a command of its own (seconds
in one thread and peak memory, start of the program and pages of mapped files included) and compared
with the restored model on texts of the held-out suite, as `tinylora-export verify --prompts` does:
on the tokens of the programs, in float32; where that could not show 0.999 of what loses nothing, in
float64, and the note says what float32 gave. `calibrated` has 16 texts, the choice of modules one.
Pages of llama.cpp (``gguf-NAME.md``) are made where llama-cpp-python is installed.

Retention is 1 − KL(restored‖way)/KL(restored‖base); `≥` where the way is no farther from the
restored model than its own arithmetic puts it (the floor), `unseen` where the effect is
not above that. Output residual is ‖y − y(restored)‖/‖y(base) − y(restored)‖ over logits; capture
and residual are of the written weights. Bytes are of weight files, relative to nf4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.harness import parser, table, write_page
from benchmarks.real.models import PACKAGES
from benchmarks.real.spectra import sentences
from benchmarks.real.ways import measured_model

COLUMNS = ("way", "bytes", "retention", "output residual", "top-1", "capture", "residual",
           "seconds", "peak MB", "note")  # fmt: skip
FORMS = {"bytes": "{:.3f} ×", "top-1": "{:.4f}", "seconds": "{:.1f}", "peak MB": "{:.0f}"}

STYLES = {
    "nf4-embedded": ("o", "tab:blue"),
    "nf4-embedded fp16": ("o", "tab:cyan"),
    "nf4 preserve": ("s", "tab:gray"),
    "nf4 calibrated": ("s", "tab:green"),
    "nf4-mixed, a quarter": ("^", "tab:green"),
    "bf16": ("D", "tab:gray"),
    "fp16": ("D", "tab:olive"),
    "fp32": ("D", "tab:blue"),
    "PEFT merge, 4 bit": ("x", "tab:red"),
    "PEFT merge, bf16": ("+", "tab:red"),
}


def section(found: pd.DataFrame) -> str:
    """One vector's heading and table."""
    first = found.iloc[0]
    head = (
        f"## {first['vector']}\n\nMean |v| {first['mean |v|']:.2g}. Mean KL from the restored "
        f"model on {first['tokens']} tokens: the base {first['effect']:.3g} nats (top-1 "
        f"{first['base top-1']:.4f}), equal models in {first['arithmetic']} "
        f"{first['floor']:.1g} (the floor), the restored model in bfloat16 "
        f"{first['bfloat16']:.3g}.\n"
    )
    nf4 = found.set_index("way")["bytes"]["nf4 preserve"]
    lines = found.assign(
        bytes=found["bytes"] / nf4,
        retention=found.apply(retention, axis=1),
        **{"peak MB": found["peak bytes"] / 1e6},
    )
    cells = [[cell(name, line[name]) for name in COLUMNS] for _, line in lines.iterrows()]
    return f"{head}\n{table(COLUMNS, cells)}"


def cell(column: str, value: Any) -> str:
    """Text as it is, a number in its column's form, nothing for nothing."""
    if pd.isna(value):
        return ""
    return value if isinstance(value, str) else FORMS.get(column, "{:.4g}").format(value)


def retention(line: pd.Series[Any]) -> str:
    """What may be said of a way's retention."""
    if pd.isna(line["retention"]):
        return "unseen"
    if not line["loss seen"]:
        return f"≥ {math.floor(line['kept at least'] * 1e4) / 1e4:.4f}"
    return f"{line['retention']:.4f}" if line["retention"] > -10 else f"{line['retention']:.3g}"


def draw(models: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Write an SVG that is the same for the same numbers."""
    columns = next(iter(models.values()))["vector"].nunique()  # the same of every model
    figure = Figure(figsize=(3.0 * columns, 2.6 * len(models) + 0.8), layout="constrained")
    panels = figure.subplots(len(models), columns, squeeze=False, sharey=True)
    for line, (model, found) in zip(panels, models.items(), strict=True):
        for panel, (vector, rows) in zip(line, found.groupby("vector", sort=False), strict=True):
            by_way = rows.set_index("way")
            nf4 = by_way["bytes"]["nf4 preserve"]
            for way, (marker, colour) in STYLES.items():
                if way in by_way.index:
                    kept = by_way["retention"][way]
                    at = (by_way["bytes"][way] / nf4, -0.1 if pd.isna(kept) else max(kept, -0.1))
                    panel.plot(*at, marker, color=colour, label=way, linestyle="none")
            panel.set_title(f"{vector}\n(mean |v| {rows['mean |v|'].iloc[0]:.1g})", fontsize=9)
            panel.set_ylim(-0.15, 1.05)
            panel.grid(alpha=0.3)
        line[0].set_ylabel(f"{model}\nretention")
    for panel in panels[-1]:
        panel.set_xlabel("bytes, relative to nf4")
    names = panels[0][0].get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", ncols=5, fontsize=8)
    with matplotlib.rc_context({"svg.hashsalt": "frontier", "svg.fonttype": "none"}):
        figure.savefig(out, metadata={"Date": None})


def main() -> None:
    options = parser(__doc__, "real")
    options.add_argument("--models", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    options.add_argument("--build", type=Path, default=Path("build/real"))
    args = options.parse_args()
    folders = [args.build.resolve() / name for name in args.models]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:  # for two cores
        made = list(pool.map(measured_model, args.models, folders))
    frames = {}
    for name, (spectra, rows) in zip(args.models, made, strict=True):
        found = frames[name] = pd.DataFrame(rows)
        parts = [section(rows) for _, rows in found.groupby("vector", sort=False)]
        about = f"Model: {name}.", "## Spectra", sentences(spectra)
        write_page(args.out / f"{name}.md", __doc__, *about, *parts)
        found.to_csv(args.out / f"{name}.csv", index=False)
    draw(frames, args.out / "frontier.svg")
    if find_spec("llama_cpp") is None:
        print("gguf-*.md are as they were: llama-cpp-python is not installed, see docs/gguf.md")
        return
    from benchmarks.gguf import make_page

    for name, folder in zip(args.models, folders, strict=True):
        make_page(name, folder / "base", folder / "full.pt", folder, args.out)


if __name__ == "__main__":
    main()
