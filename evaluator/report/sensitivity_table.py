"""What a run could have seen: the table that belongs beside every verdict."""

from evaluator.report.summary import RunSummary
from evaluator.report.tables import percent
from evaluator.report.text_table import TextTable


def sensitivity_table(summary: RunSummary) -> TextTable | None:
    """For each comparison its flips and the smallest margin and difference it could show.

    With an A/A repeat of the reference that draws anew, flips are also given as a multiple of the
    repeat's: at 1 and below an arm is no farther from the reference than the reference is from
    itself.
    """
    if not summary.comparisons:
        return None
    against_noise = ("flips / A/A",) if summary.noise else ()
    header = (
        "arm",
        "flips",
        *against_noise,
        "δ",
        "δ without flips",
        "δ at 80 %",
        "difference at 80 %",
    )
    rows = []
    for pair in summary.comparisons:
        ratio = tuple(_ratio(pair.flip_rate, floor.flip_rate) for floor in summary.noise[:1])
        rows.append(
            (
                pair.arm,
                percent(pair.flip_rate),
                *ratio,
                _points(pair.margin),
                _points(pair.shown_margin),
                _points(pair.provable_margin),
                _points(pair.detectable_difference),
            )
        )
    return TextTable("What the run could have seen, in points", header, tuple(rows))


def _ratio(flip_rate: float, floor: float) -> str:
    if floor > 0:
        return f"{flip_rate / floor:.2f}"
    return "0 / 0" if flip_rate == 0 else "∞"


def _points(proportion: float | None) -> str:
    return "none" if proportion is None else f"{100 * proportion:.1f}"
