"""The charts of a report, drawn by matplotlib as SVG whose text stays text."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.dom import minidom

from markupsafe import Markup
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluator.report.html.text import visible
from evaluator.report.summary import ArmSummary, RunSummary
from evaluator.report.tables import percent, points, shown_verdict, size_text
from evaluator.store.snapshot import LayerResidual

_STYLE: Any = {
    # whatever the user's matplotlibrc says
    **{name: value for name, value in rcParamsDefault.items() if name != "backend"},
    "svg.fonttype": "none",  # the reader's fonts draw the text, Chinese too
    "svg.hashsalt": "tinylora",  # equal bytes for equal numbers
    "text.parse_math": False,  # names of arms are no formulas
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": "#1c2128",
    "xtick.color": "#5d6672",
    "ytick.color": "#5d6672",
    "axes.labelcolor": "#5d6672",
    "axes.edgecolor": "#d9dde3",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d9dde3",
}
_SERIES = ("#6b7480", "#0b5cad", "#c8501e", "#08805f", "#8a3ea8", "#a27100", "#0a7f99", "#b0305c")
_COLOURS = {
    **{"match": "#167a3f", "differ": "#b42318", "inconclusive": "#8a6100", "control": "#6b7480"},
    **{"axis": "#5d6672", "reference": "#0b5cad", "margin": "#cfe6d6"},
}
_WIDTH, _ROW, _PLOT, _LINE = 5.0, 0.46, 2.4, 0.2  # inches
_NAME_CHARACTERS = 28
_LOWEST = -0.5  # an arm that keeps less is drawn at the foot, with its number
_DECADES = 1e-6  # of the largest residual: the least that the logarithmic axis shows


@dataclass(frozen=True)
class Chart:
    """A picture, whole as a file and safe inside a page with others, and how to read it."""

    name: str
    title: str
    note: str
    svg: Markup


def make_charts(
    summary: RunSummary, layers: Mapping[str, Sequence[LayerResidual]]
) -> tuple[Chart, ...]:
    """All charts for which there are numbers; ``layers`` are residuals by arm."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # matplotlib measures text with its own font; what it lacks, the reader's font has
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        charts = [_pass_rates(summary)]
        if summary.comparisons:
            charts.append(_differences(summary))
        if any(layers.get(arm.facts.name) for arm in summary.arms):
            charts.append(_residual_by_layer(summary, layers))
        measured = summary.token_level.arms if summary.token_level is not None else ()
        if retention := {arm.arm: arm.kept.retention for arm in measured if arm.kept is not None}:
            charts.append(_size_against_retention(summary, retention))
    return tuple(charts)


def _pass_rates(summary: RunSummary) -> Chart:
    figure, axes = _rows(len(summary.arms), ticks="{x:g} %")
    for row, arm in enumerate(summary.arms):
        low, rate, high = (100 * x for x in (arm.interval.low, arm.pass_rate, arm.interval.high))
        _name(axes, row, arm.facts.name, f"{percent(arm.pass_rate)} [{low:.1f} – {high:.1f}]")
        axes.plot([low, high], [row, row], color=_colour(row), linewidth=2)
        axes.plot(rate, row, "o", color=_colour(row))
        if arm.facts.name == summary.reference:
            axes.axvline(rate, color=_COLOURS["reference"], linestyle="dashed", linewidth=0.8)
    note = "Share of completions that pass all tests, with 95 % interval."
    if summary.reference is not None:
        note += f" Dashed: {summary.reference}, the reference."
    return _chart(figure, "pass_rates", "Pass rate by arm", note)


def _differences(summary: RunSummary) -> Chart:
    pairs = summary.comparisons
    margin, reference = 100 * pairs[0].margin, pairs[0].reference
    figure, axes = _rows(len(pairs), ticks="{x:+g}")
    axes.axvspan(-margin, margin, color=_COLOURS["margin"], zorder=0)
    axes.axvline(0, color=_COLOURS["axis"], linewidth=0.8)
    for row, pair in enumerate(pairs):
        colour = _COLOURS[str(pair.verdict) if summary.is_candidate(pair) else "control"]
        word = shown_verdict(pair, summary)
        value = f"{points(pair.difference)} (+{pair.gained} −{pair.lost}) {word}"
        _name(axes, row, pair.arm, value)
        for interval, width in ((pair.interval95, 1.5), (pair.interval90, 5)):
            ends = [100 * interval.low, 100 * interval.high]
            axes.plot(ends, [row, row], color=colour, linewidth=width, solid_capstyle="butt")
        axes.plot(100 * pair.difference, row, "o", color=colour, markeredgecolor="white")
    note = (
        f"Points of pass rate against {reference}: thin 95 %, thick 90 % interval. An arm "
        f"matches where its thick line lies inside the shaded ±{margin:g} points, "
        "and the exact test agrees."
    )
    return _chart(figure, "differences", f"Difference to {reference}", note)


def _residual_by_layer(summary: RunSummary, layers: Mapping[str, Sequence[LayerResidual]]) -> Chart:
    """What the stored weights of each layer miss of the delta, on a logarithmic axis."""
    shown = [(n, arm) for n, arm in enumerate(summary.arms) if layers.get(arm.facts.name)]
    figure, axes = _plot(len(shown))
    every = [layer.residual for _, arm in shown for layer in layers[arm.facts.name]]
    least = max(min((r for r in every if r > 0), default=1.0), _DECADES * max(every))
    foot = 10 ** math.floor(math.log10(least)) / 2
    for number, arm in shown:
        own = layers[arm.facts.name]
        overall = arm.facts.residual
        axes.plot(
            [layer.layer for layer in own],
            [max(layer.residual, foot) for layer in own],
            marker="os"[number % 2],
            markersize=4,
            color=_colour(number),
            label=_label(arm, "" if overall is None else f"{overall:.3g} overall"),
        )
    axes.set_yscale("log")
    axes.set_ylim(foot, 1.3 * max(1.0, *every))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left", frameon=False)
    note = (
        "‖stored − wanted‖ / ‖wanted‖ of the delta, over each layer's modules: 0 is perfect, 1 no "
        "better than the base. As the exporter measured it on the weights; 0 stands on the axis."
    )
    return _chart(figure, "residual_by_layer", "Residual by layer", note)


def _size_against_retention(summary: RunSummary, retention: Mapping[str, float]) -> Chart:
    figure, axes = _plot(len(retention))
    for number, arm in enumerate(summary.arms):
        if (value := retention.get(arm.facts.name)) is None:
            continue
        size = arm.facts.weight_bytes
        label = _label(arm, f"{value:.3f} at {size_text(size)}")
        style: Any = {"marker": "os"[number % 2], "color": _colour(number), "linestyle": "none"}
        axes.plot(size, max(value, _LOWEST), label=label, **style)
    axes.axhline(1, color=_COLOURS["axis"], linewidth=0.8)
    axes.set_xlim(0, 1.08 * max(arm.facts.weight_bytes for arm in summary.arms))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.04), max(high, 1.04))
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda x, _: size_text(round(x)) if x else "0")
    figure.legend(loc="outside upper left", frameon=False)
    note = (
        "Size of the weight files against retention: 1 − KL(reference‖arm) / KL(reference‖base) on "
        "the same tokens. 1 is all of it."
    )
    return _chart(figure, "size", "Size against retention", note)


def _rows(count: int, ticks: str) -> tuple[Figure, Axes]:
    """Axes with a row for each arm, the first at the top."""
    figure = Figure(figsize=(_WIDTH, 0.4 + _ROW * count), layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylim(count - 0.6, -0.75)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(ticks)
    axes.margins(x=0.04)
    return figure, axes


def _name(axes: Axes, row: int, name: str, value: str) -> None:
    """An arm's name and numbers in a line above its marks."""
    background = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    where: Any = {"transform": axes.get_yaxis_transform(), "va": "center", "bbox": background}
    axes.text(0, row - 0.48, _short(name), weight="bold", **where)
    axes.text(1, row - 0.48, value, ha="right", **where)


def _plot(arms: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, _PLOT + _LINE * arms), layout="constrained")
    return figure, figure.add_subplot()


def _label(arm: ArmSummary, value: str) -> str:
    name = _short(arm.facts.name)
    # matplotlib leaves labels with a leading underscore out of a legend
    return f"\u200b{name}  {value}" if name.startswith("_") else f"{name}  {value}"


def _short(name: str) -> str:
    name = visible(name)
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"


def _colour(number: int) -> str:
    return _SERIES[number % len(_SERIES)]


def _chart(figure: Figure, name: str, title: str, note: str) -> Chart:
    content = io.StringIO()
    unknown = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(content, format="svg", metadata=unknown)
    root = minidom.parseString(content.getvalue()).documentElement
    assert root is not None
    for key, value in (("role", "img"), ("aria-label", visible(title)), ("class", "chart")):
        root.setAttribute(key, value)
    for element in (root, *root.getElementsByTagName("*")):
        for attribute in ("id", "xlink:href", "clip-path"):
            if value := element.getAttribute(attribute):  # made one that no other chart has
                prefixed = f"{name}-{value}" if attribute == "id" else value
                element.setAttribute(attribute, prefixed.replace("#", f"#{name}-"))
    return Chart(name, title, note, Markup(root.toxml()))  # noqa: S704 - escaped by minidom
