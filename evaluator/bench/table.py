"""The one table of a bench: the arms of all its runs below each other.

Among many comparisons some match by chance, so a match is one of the whole bench only where its
p-value, adjusted for all compared arms of all runs (Holm), is at most 5 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from evaluator.bench.plan import Cell, Export
from evaluator.report.summary import RunSummary
from evaluator.report.tables import arms_frame, arms_table
from evaluator.report.text_table import TextTable
from evaluator.statistics.compare import holm

_PLACE = ("base", "artifact", "suite", "decoding")
BENCH_KEY = (*_PLACE, "arm")  # columns that name a row
_SHOWN = (
    *("arm", "size", "pass@1", "95 % interval"),
    *("gained / lost", "difference [95 %]", "verdict", "capture"),
)

_Place = tuple[str, ...]


class CellResult(NamedTuple):
    """What became of a run; no summary where it failed, absent exports were not made."""

    cell: Cell
    summary: RunSummary | None
    absent: tuple[Export, ...]


def bench_table(name: str, results: Sequence[CellResult]) -> TextTable:
    """For people: one row an arm of a run, and one for what failed."""
    header, joint = (*_PLACE, *_SHOWN, "retention"), _joint_p(results)
    table = TextTable(name, header, tuple(row for r in results for row in _text_rows(r, joint)))
    if len({result.cell.base.name for result in results}) == 1:
        return table.select(name, header[1:])
    return table


def bench_frame(results: Sequence[CellResult]) -> pd.DataFrame:
    """For programs: the same rows, with every column of a run's table of arms."""
    joint = _joint_p(results)
    frames = [_frame(result, joint).astype(object) for result in results]  # also where all is NA
    return pd.concat(frames, ignore_index=True).convert_dtypes()


def _joint_p(results: Sequence[CellResult]) -> Mapping[_Place, float]:
    """Adjusted p-value of each compared arm's match, by the place of its run and its name."""
    alone = {
        (*result.cell.parts, pair.arm): pair.match_p
        for result in results
        if result.summary is not None
        for pair in result.summary.comparisons
        if pair.joint_match_p is not None  # neither control nor repeat
    }
    return dict(zip(alone, holm(list(alone.values())), strict=True))


def _text_rows(result: CellResult, joint: Mapping[_Place, float]) -> list[tuple[str, ...]]:
    place = result.cell.parts
    absent = [_failed_row(place, export.format.name) for export in result.absent]
    if result.summary is None:
        return [_failed_row(place, "all"), *absent]
    comparisons = tuple(
        replace(pair, joint_match_p=joint.get((*place, pair.arm)))
        for pair in result.summary.comparisons
    )
    shown = replace(result.summary, comparisons=comparisons)
    rows = arms_table(shown).select("", _SHOWN).rows
    known = _retentions(result.summary)
    kept = [known.get(row[0]) for row in rows]
    texts = ["" if share is None else f"{share:.3f}" for share in kept]
    return [*((*place, *row, text) for row, text in zip(rows, texts, strict=True)), *absent]


def _failed_row(place: tuple[str, ...], arm: str) -> tuple[str, ...]:
    cells = dict.fromkeys((*_SHOWN, "retention"), "") | {"arm": arm, "verdict": "failed"}
    return (*place, *cells.values())


def _frame(result: CellResult, joint: Mapping[_Place, float]) -> pd.DataFrame:
    absent = [{"arm": export.format.name, "failed": True} for export in result.absent]
    if result.summary is None:
        frame = pd.DataFrame([{"arm": "all", "failed": True}, *absent])
    else:
        frame = arms_frame(result.summary).assign(failed=False)
        frame["retention"] = frame["arm"].map(_retentions(result.summary))
        place = result.cell.parts
        frame["bench_match_p"] = [joint.get((*place, arm)) for arm in frame["arm"]]
        frame = pd.concat([frame, pd.DataFrame(absent)], ignore_index=True) if absent else frame
    for index, (column, value) in enumerate(zip(_PLACE, result.cell.parts, strict=True)):
        frame.insert(index, column, value)
    return frame


def _retentions(summary: RunSummary) -> dict[str, float]:
    """Of the tokens, by arm, where one was measured."""
    arms = summary.token_level.arms if summary.token_level else ()
    return {arm.arm: arm.kept.retention for arm in arms if arm.kept is not None}
