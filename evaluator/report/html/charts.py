"""The charts of a report, from the run's numbers to marks; ``html_marks`` draws them.

Rows are an arm each: its name and numbers in one line of text, its picture below.
"""

import math
from collections.abc import Mapping, Sequence

from evaluator.report.html.fidelity_charts import residual_by_layer, size_against_kept
from evaluator.report.html.marks import (
    AXIS,
    SERIES,
    Anchor,
    Box,
    Chart,
    Dot,
    Label,
    Line,
    Mark,
    Scale,
    short_name,
    ticks,
)
from evaluator.report.html.sources import LayerResidual
from evaluator.report.summary import VERDICTS, RunSummary
from evaluator.report.tables import percent, points, verdict_text
from evaluator.statistics.compare import PairedComparison

_ROW = 40  # pixels an arm
_TRACK = 26  # of the picture's middle below the row's top


def make_charts(
    summary: RunSummary, layers: Mapping[str, Sequence[LayerResidual]]
) -> tuple[Chart, ...]:
    """All charts for which there are numbers.

    Args:
        summary: Of the run.
        layers: Residuals by layer, by arm.
    """
    charts = [pass_rates(summary), differences(summary), verdict_counts(summary)]
    charts += [residual_by_layer(summary, layers), size_against_kept(summary)]
    return tuple(chart for chart in charts if chart is not None)


def pass_rates(summary: RunSummary) -> Chart:
    """Pass rate and 95 % interval of each arm."""
    low = math.floor(10 * min(arm.interval.low for arm in summary.arms)) / 10
    high = math.ceil(10 * max(arm.interval.high for arm in summary.arms)) / 10
    scale = Scale(low, max(high, low + 0.1))
    rows = len(summary.arms)
    marks = _grid(scale, rows, [(t, f"{100 * t:.0f} %") for t in ticks(low, scale.high)])
    for arm in summary.arms:
        if arm.facts.name == summary.reference:
            marks += _upright(scale(arm.pass_rate), rows, "reference")
    for number, arm in enumerate(summary.arms):
        y = _ROW * number
        interval = f"{100 * arm.interval.low:.1f} – {100 * arm.interval.high:.1f}"
        text = f"{percent(arm.pass_rate)} [{interval}]"
        marks += _named(arm.facts.name, text, y)
        ends = scale(arm.interval.low), scale(arm.interval.high)
        series = f"s{number % SERIES}"
        marks.append(Line(ends[0], y + _TRACK, ends[1], y + _TRACK, f"interval {series}"))
        marks.append(Dot(scale(arm.pass_rate), y + _TRACK, series, f"{arm.facts.name}: {text}"))
    note = "Share of completions that pass all tests, with 95 % interval."
    if summary.reference is not None:
        note += f" Dashed: {summary.reference}, the reference."
    return Chart("pass_rates", "Pass rate by arm", note, _ROW * rows + AXIS, tuple(marks))


def differences(summary: RunSummary) -> Chart | None:
    """Difference of each arm to the reference, with 90 and 95 % intervals, against ±δ."""
    if not summary.comparisons:
        return None
    pairs, margin = summary.comparisons, summary.comparisons[0].margin
    ends = [end for p in pairs for end in (p.interval95.low, p.interval95.high)]
    low, high = min(-margin, *ends), max(margin, *ends)
    room = 0.04 * (high - low)
    scale = Scale(low - room, high + room)
    rows = len(pairs)
    marks: list[Mark] = [
        Box(scale(-margin), scale(margin), _ROW * row + _TRACK - 8, 16, "margin")
        for row in range(rows)
    ]
    named = [(t, points(t).removesuffix(".0")) for t in ticks(scale.low, scale.high)]
    marks += _grid(scale, rows, named)
    marks += _upright(scale(0), rows, "zero")
    for number, pair in enumerate(pairs):
        marks += _difference_row(pair, scale, _ROW * number, pair.arm == summary.control)
    note = (
        f"Points of pass rate against {pairs[0].reference}: thin 95 %, thick 90 % interval. An arm "
        f"matches where its thick line lies inside the shaded ±{100 * margin:g} points, fixed "
        "before the run, and the exact test agrees."
    )
    title = f"Difference to {pairs[0].reference}"
    return Chart("differences", title, note, _ROW * rows + AXIS, tuple(marks))


def _difference_row(pair: PairedComparison, scale: Scale, y: int, control: bool) -> list[Mark]:
    thin, thick = pair.interval95, pair.interval90
    word = "control" if control else verdict_text(pair)
    text = f"{points(pair.difference)} (+{pair.gained} −{pair.lost}) {word}"
    hint = (
        f"{pair.arm}: {points(pair.difference)} points, 90 % {points(thick.low)} to "
        f"{points(thick.high)}, 95 % {points(thin.low)} to {points(thin.high)}"
    )
    css = "control" if control else str(pair.verdict)
    y_mark = y + _TRACK
    return [
        *_named(pair.arm, text, y),
        Line(scale(thin.low), y_mark, scale(thin.high), y_mark, f"interval {css}"),
        Line(scale(thick.low), y_mark, scale(thick.high), y_mark, f"thick {css}"),
        Dot(scale(pair.difference), y_mark, css, hint),
    ]


def verdict_counts(summary: RunSummary) -> Chart:
    """Completions by verdict, one bar an arm."""
    marks: list[Mark] = []
    shown = [name for name in VERDICTS if any(arm.verdicts[name] for arm in summary.arms)]
    for number, arm in enumerate(summary.arms):
        total, start = sum(arm.verdicts.values()), 0.0
        y = _ROW * number
        counts = " · ".join(f"{name} {arm.verdicts[name]}" for name in shown if arm.verdicts[name])
        marks += _named(arm.facts.name, "", y)
        for name in shown:
            share = arm.verdicts[name] / total
            css, hint = f"verdict v{name}", f"{arm.facts.name}: {counts}"
            marks.append(Box(start, start + share, y + 18, 18, css, hint))
            if share >= 0.08:  # room for the letters, on a telephone too
                text = f"{name} {arm.verdicts[name]}" if share >= 0.2 else name
                marks.append(Label(start + share / 2, y + 31, text, "inside", "middle"))
            start += share
    note = (
        "All completions. AC passes all tests, WA wrong answer, RE ended by a signal or exit "
        "code, CE no program that compiles, TLE / MLE / OLE over a limit of time, memory or output."
    )
    return Chart("verdicts", "Verdicts", note, _ROW * len(summary.arms), tuple(marks))


def _named(name: str, value: str, y: int) -> list[Mark]:
    marks: list[Mark] = [Label(0, y + 13, short_name(name), "name")]
    return [*marks, Label(1, y + 13, value, "value", "end")] if value else marks


def _grid(scale: Scale, rows: int, named: Sequence[tuple[float, str]]) -> list[Mark]:
    """Grid lines in every row, with their values below the last one."""
    marks: list[Mark] = []
    for value, text in named:
        x = scale(value)
        anchor: Anchor = "start" if x < 0.03 else "end" if x > 0.97 else "middle"
        marks += _upright(x, rows, "grid")
        marks.append(Label(x, _ROW * rows + 14, text, "tick", anchor))
    return marks


def _upright(x: float, rows: int, css: str) -> list[Mark]:
    """A line through all rows' pictures, and not through their texts."""
    return [
        Line(x, _ROW * row + _TRACK - 8, x, _ROW * row + _TRACK + 8, css) for row in range(rows)
    ]
