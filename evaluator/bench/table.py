"""The one table of a bench: the arms of all its runs below each other."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from evaluator.bench.plan import Cell, Export
from evaluator.report.summary import RunSummary
from evaluator.report.tables import arms_frame, arms_table
from evaluator.report.text_table import TextTable

_PLACE = ("base", "artifact", "suite", "decoding")
BENCH_KEY = (*_PLACE, "arm")  # columns that name a row
_SHOWN = (
    *("arm", "size", "pass@1", "95 % interval"),
    *("gained / lost", "difference [95 %]", "verdict", "capture"),
)


class CellResult(NamedTuple):
    """What became of a run; no summary where it failed, absent exports were not made."""

    cell: Cell
    summary: RunSummary | None
    absent: tuple[Export, ...]


def bench_table(name: str, results: Sequence[CellResult]) -> TextTable:
    """For people: one row an arm of a run, and one for what failed."""
    header = (*_PLACE, *_SHOWN, "retention")
    table = TextTable(name, header, tuple(row for r in results for row in _text_rows(r)))
    if len({result.cell.base.name for result in results}) == 1:
        return table.select(name, header[1:])
    return table


def bench_frame(results: Sequence[CellResult]) -> pd.DataFrame:
    """For programs: the same rows, with every column of a run's table of arms."""
    frames = [_frame(result) for result in results]
    return pd.concat(frames, ignore_index=True).convert_dtypes()


def _text_rows(result: CellResult) -> list[tuple[str, ...]]:
    place = result.cell.parts
    absent = [_failed_row(place, export.format.name) for export in result.absent]
    if result.summary is None:
        return [_failed_row(place, "all"), *absent]
    rows = arms_table(result.summary).select("", _SHOWN).rows
    known = _retentions(result.summary)
    kept = [known.get(row[0]) for row in rows]
    texts = ["" if share is None else f"{share:.3f}" for share in kept]
    return [*((*place, *row, text) for row, text in zip(rows, texts, strict=True)), *absent]


def _failed_row(place: tuple[str, ...], arm: str) -> tuple[str, ...]:
    cells = dict.fromkeys((*_SHOWN, "retention"), "") | {"arm": arm, "verdict": "failed"}
    return (*place, *cells.values())


def _frame(result: CellResult) -> pd.DataFrame:
    absent = [{"arm": export.format.name, "failed": True} for export in result.absent]
    if result.summary is None:
        frame = pd.DataFrame([{"arm": "all", "failed": True}, *absent])
    else:
        frame = arms_frame(result.summary).assign(failed=False)
        frame["retention"] = frame["arm"].map(_retentions(result.summary))
        frame = pd.concat([frame, pd.DataFrame(absent)], ignore_index=True)
    for index, (column, value) in enumerate(zip(_PLACE, result.cell.parts, strict=True)):
        frame.insert(index, column, value)
    return frame


def _retentions(summary: RunSummary) -> dict[str, float]:
    """Of the tokens, by arm, where one was measured."""
    arms = summary.token_level.arms if summary.token_level else ()
    return {arm.arm: arm.kept.retention for arm in arms if arm.kept is not None}
