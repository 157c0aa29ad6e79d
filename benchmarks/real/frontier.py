"""The picture: bytes against retention, a row a model, a column a size of v."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

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


def draw(models: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Write an SVG that is the same for the same numbers."""
    import matplotlib
    from matplotlib.figure import Figure

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
