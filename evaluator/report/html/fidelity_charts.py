"""Charts of what an export kept: residual by layer, and size against retention or capture."""

import math
from collections.abc import Mapping, Sequence

from evaluator.report.html.marks import (
    AXIS,
    SERIES,
    Anchor,
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
from evaluator.report.summary import ArmSummary, RunSummary
from evaluator.report.tables import size_text

_PLOT = 220  # pixels between the axes
_LEGEND_ROW = 20
_LOWEST = -0.5  # an arm that keeps less is drawn at the foot, with its number
_DECADES = 6  # most that the logarithmic axis shows; what lies below is drawn at its foot


def residual_by_layer(
    summary: RunSummary, layers: Mapping[str, Sequence[LayerResidual]]
) -> Chart | None:
    """What the stored weights of each layer miss of the delta, on a logarithmic axis."""
    arms = [(n, arm) for n, arm in enumerate(summary.arms) if layers.get(arm.facts.name)]
    if not arms:
        return None
    every = [layer for _, arm in arms for layer in layers[arm.facts.name]]
    vertical = _decades([layer.residual for layer in every])
    last = max(1, *(layer.layer for layer in every))
    across = Scale(-0.1 * last, last)
    top = _LEGEND_ROW * len(arms) + 12
    marks = _layer_axes(vertical, across, top)
    for row, (number, arm) in enumerate(arms):
        residual = arm.facts.residual
        marks += _legend(arm, row, number, "" if residual is None else f"{residual:.3g} overall")
        marks += _layer_path(arm.facts.name, layers[arm.facts.name], number, vertical, across, top)
    marks.append(Label(1, top + _PLOT + 32, "layer", "tick", "end"))
    note = (
        "‖stored − wanted‖ / ‖wanted‖ of the delta, over each layer's modules: 0 is perfect, 1 no "
        "better than the base. As the exporter measured it on the weights."
    )
    height = top + _PLOT + AXIS + 12
    return Chart("residual_by_layer", "Residual by layer", note, height, tuple(marks))


def _decades(residuals: Sequence[float]) -> Scale:
    """An axis of powers of ten, with room below for residuals of 0."""
    logs = [math.log10(residual) for residual in residuals if residual > 0] or [0.0]
    high = max(*logs, 0.0) + 0.2
    low = max(math.floor(min(logs)), math.floor(high) - _DECADES)
    return Scale(low - (0.5 if min(residuals) < 10.0**low else 0.05), high)


def _height_of(residual: float, vertical: Scale, top: float) -> float:
    log = math.log10(residual) if residual > 0 else -math.inf
    return top + _PLOT * (1 - vertical(log))


def _layer_axes(vertical: Scale, across: Scale, top: float) -> list[Mark]:
    marks: list[Mark] = []
    for exponent in range(math.ceil(vertical.low), math.floor(vertical.high) + 1):
        y = _height_of(10.0**exponent, vertical, top)
        marks.append(Line(0, y, 1, y, "zero" if exponent == 0 else "grid"))
        marks.append(Label(0, y - 3, f"{10.0**exponent:g}", "tick"))
    for tick in ticks(0, across.high):
        if tick == int(tick):
            marks.append(Label(across(tick), top + _PLOT + 16, f"{tick:.0f}", "tick", "middle"))
    return marks


def _layer_path(
    name: str,
    layers: Sequence[LayerResidual],
    number: int,
    vertical: Scale,
    across: Scale,
    top: float,
) -> list[Mark]:
    """One arm: segments between neighbouring layers, and a marker on each."""
    css = f"s{number % SERIES}"
    places = [(across(x.layer), _height_of(x.residual, vertical, top)) for x in layers]
    marks: list[Mark] = [
        Line(*one, *two, f"path {css}") for one, two in zip(places, places[1:], strict=False)
    ]
    for (x, y), layer in zip(places, layers, strict=True):
        hint = (
            f"{name}, layer {layer.layer}: residual {layer.residual:.3g} "
            f"(worst {layer.worst} {layer.worst_residual:.3g})"
        )
        marks.append(Dot(x, y, css, hint, 3.5, number))
    return marks


def _legend(arm: ArmSummary, row: int, number: int, value: str) -> list[Mark]:
    """An arm's mark, name and number above a plot, where they cover nothing of it."""
    y = _LEGEND_ROW * row + 12
    marks: list[Mark] = [
        Dot(0.012, y - 4, f"s{number % SERIES}", shape=number),
        Label(0.035, y, short_name(arm.facts.name), "name"),
    ]
    if value:
        marks.append(Label(1, y, value, "value", "end"))
    return marks


def size_against_kept(summary: RunSummary) -> Chart | None:
    """Bytes on the disk against retention of the effect, or capture of the delta without it."""
    retention = _retention(summary)
    kept = retention or {
        arm.facts.name: arm.facts.capture for arm in summary.arms if arm.facts.capture is not None
    }
    shown = [
        (n, arm, kept[arm.facts.name])
        for n, arm in enumerate(summary.arms)
        if arm.facts.name in kept
    ]
    if not shown:
        return None
    top = _LEGEND_ROW * len(shown) + 14
    across = Scale(0, 1.08 * max(arm.facts.weight_bytes for _, arm, _ in shown))
    values = [value for _, _, value in shown]
    vertical = Scale(max(min(0.0, *values), _LOWEST) - 0.04, max(1.0, *values) + 0.04)
    marks: list[Mark] = []
    for tick in ticks(vertical.low, vertical.high):
        y = top + _PLOT * (1 - vertical(tick))
        marks.append(Line(0, y, 1, y, "zero" if tick == 1 else "grid"))
        marks.append(Label(0, y - 3, f"{tick:g}", "tick"))
    for tick in ticks(0, across.high, 5):
        anchor: Anchor = "start" if tick == 0 else "middle"
        text = size_text(round(tick)) if tick else "0"
        marks.append(Label(across(tick), top + _PLOT + 16, text, "tick", anchor))
    for row, (number, arm, value) in enumerate(shown):
        size = size_text(arm.facts.weight_bytes)
        marks += _legend(arm, row, number, f"{value:.3f} at {size}")
        hint = f"{arm.facts.name}: {size}, {value:.4f}"
        y = top + _PLOT * (1 - vertical(value))
        marks.append(
            Dot(across(arm.facts.weight_bytes), y, f"s{number % SERIES}", hint, shape=number)
        )
    what = "retention" if retention else "capture"
    meaning = (
        "1 − KL(reference‖arm) / KL(reference‖base) on the same tokens"
        if retention
        else "share of the delta that the stored weights hold; this run has no token-level "
        "retention"
    )
    note = f"Size of the weight files against {what}: {meaning}. 1 is all of it."
    return Chart("size", f"Size against {what}", note, top + _PLOT + AXIS, tuple(marks))


def _retention(summary: RunSummary) -> Mapping[str, float]:
    """Token-level retention of the arms that have one and are no repeat of the reference."""
    arms = summary.token_level.arms if summary.token_level is not None else ()
    return {a.arm: a.retention for a in arms if a.retention is not None and not a.repeat}
