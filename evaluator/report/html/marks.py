"""Marks of a chart, and their picture as SVG.

A chart has no width of its own: x is a share of whatever width the page gives it, y and all text
are pixels. So one picture serves a telephone and a wide screen, and its letters are as large as the
page's in both. Colours come from classes (``charts.css``), for light and dark.
"""

import math
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from evaluator.report.html.text import visible

Anchor = Literal["start", "middle", "end"]

SERIES = 8  # colours of charts.css
AXIS = 24  # pixels below a picture, for its axis
_NAME_CHARACTERS = 28
# Left and right margin in per cent, so that marks at the ends are not cut.
_MARGIN = 1.5
_SPAN = 100 - 2 * _MARGIN


@dataclass(frozen=True)
class Line:
    """A straight line; x in [0, 1], y in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float
    css: str


@dataclass(frozen=True)
class Box:
    """A rectangle from x1 to x2, ``height`` pixels high, with a text for the pointer."""

    x1: float
    x2: float
    y: float
    height: float
    css: str
    hint: str = ""


@dataclass(frozen=True)
class Dot:
    """A marker: a circle, or a square where ``shape`` is odd."""

    x: float
    y: float
    css: str
    hint: str = ""
    radius: float = 4.5
    shape: int = 0


@dataclass(frozen=True)
class Label:
    """A text whose baseline is at y."""

    x: float
    y: float
    text: str
    css: str = ""
    anchor: Anchor = "start"


Mark = Line | Box | Dot | Label


@dataclass(frozen=True)
class Chart:
    """A picture with its words.

    Attributes:
        name: Stem of its file.
        title: Heading.
        note: How to read it.
        height: Pixels.
        marks: In the order in which they are drawn.
    """

    name: str
    title: str
    note: str
    height: int
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Scale:
    """From values to places in [0, 1]; ``low`` and ``high`` are the ends."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        """The value's place, held between the ends."""
        share = (value - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)


def chart_svg(chart: Chart, style: Markup | None = None, width: str = "100%") -> Markup:
    """The chart as SVG.

    Args:
        chart: What to draw.
        style: Style sheet for a picture that stands alone; in a page the page's own holds.
        width: ``100%`` of the page's column, or pixels.
    """
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{}" '
        'width="{}" height="{}">'
    ).format(chart.title, width, chart.height)
    marks = Markup("").join(_mark_svg(mark) for mark in chart.marks)
    return head + (style or Markup()) + marks + Markup("</svg>")


def _mark_svg(mark: Mark) -> Markup:
    match mark:
        case Line(x1, y1, x2, y2, css):
            return Markup('<line x1="{}" y1="{:g}" x2="{}" y2="{:g}" class="{}"/>').format(
                _place(x1), y1, _place(x2), y2, css
            )
        case Box(x1, x2, y, height, css, hint):
            return Markup(
                '<rect x="{}" y="{:g}" width="{:.4g}%" height="{:g}" class="{}">{}</rect>'
            ).format(_place(x1), y, (x2 - x1) * _SPAN, height, css, _hint(hint))
        case Dot(x, y, css, hint, r, shape):
            if shape % 2 == 0:
                return Markup('<circle cx="{}" cy="{:g}" r="{:g}" class="{}">{}</circle>').format(
                    _place(x), y, r, css, _hint(hint)
                )
            return Markup(
                '<rect x="{}" y="{:g}" width="{:g}" height="{:g}" transform="translate({:g} 0)" '
                'class="{}">{}</rect>'
            ).format(_place(x), y - r, 2 * r, 2 * r, -r, css, _hint(hint))
        case Label(x, y, text, css, anchor):
            return Markup('<text x="{}" y="{:g}" text-anchor="{}" class="{}">{}</text>').format(
                _place(x), y, anchor, css, visible(text)
            )


def _hint(text: str) -> Markup:
    return Markup("<title>{}</title>").format(visible(text)) if text else Markup()


def _place(x: float) -> str:
    """A place in [0, 1] as SVG's percentage."""
    return f"{_MARGIN + _SPAN * x:.4g}%"


def short_name(name: str) -> str:
    """An arm's name, cut where a narrow picture has no room for it."""
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"


def ticks(low: float, high: float, most: int = 7) -> tuple[float, ...]:
    """Round numbers between two ends, at most ``most`` of them.

    >>> ticks(-0.043, 0.11)
    (0.0, 0.05, 0.1)
    >>> ticks(0, 1)
    (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """
    steps = (digit * 10.0**exponent for exponent in range(-9, 13) for digit in (1, 2, 5))
    step = next(step for step in steps if (high - low) / step <= most - 1)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))
