"""Runs of a bench: which are finished, and how another one is made or goes on.

Completions depend on the model, the prompts and the decoding, verdicts on tests and judge as well.
Where all of this is equal in another run, its records are copied.
"""

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from evaluator.bench.plan import Cell
from evaluator.config.config_file import dump_config
from evaluator.config.run_config import load_config
from evaluator.errors import RecordsError, RunDirectoryError
from evaluator.generation.prepare import Prepared
from evaluator.progress import Progress
from evaluator.report.results import read_summary
from evaluator.report.summary import RunSummary
from evaluator.run import run
from evaluator.store.lock import locked
from evaluator.store.looks import complete_look
from evaluator.store.plan import maker_ids, write_plan
from evaluator.store.records import GenerationRecord, Record, VerdictRecord, append, read
from evaluator.store.run_directory import RunDirectory, RunFacts
from evaluator.tokens.stage import has_all_arms

_Record = TypeVar("_Record", bound=Record)
_log = logging.getLogger(__name__)
# Fields that hold paths; what lies there is pinned by the run's facts.
_WITH_PATHS = ("out", "suite", "arms", "factor_store", "judge")


def state_of(prepared: Prepared) -> tuple[str, str]:
    """Whether a run is missing, begun, outdated or finished; for outdated: what has changed."""
    directory = RunDirectory(prepared.config.out)
    directory.check_usable(overwrite=False)
    if not directory.facts.exists():
        return "missing", ""
    if differences := directory.differences(prepared.facts):
        return "outdated", "; ".join(differences[:2])
    return ("finished" if _is_finished(prepared, directory) else "begun"), ""


def make_run(
    cell: Cell, prepared: Prepared, command: str, unsafe: bool, progress: Progress
) -> RunSummary:
    """Make a run, go on with it, or only read it where it is finished."""
    directory = RunDirectory(cell.out)
    state, _ = state_of(prepared)
    if state == "finished":
        return read_summary(directory)
    if state == "outdated":
        _check_device(cell, prepared)
        _set_aside(cell)
    directory.path.mkdir(parents=True, exist_ok=True)
    with locked(directory.path):
        directory.report.unlink(missing_ok=True)
        directory.begin(prepared.facts, dump_config(prepared.config), overwrite=False)
        write_plan(directory, prepared.facts)
        found = (cell.bench.out / folder for folder in ("runs", "earlier"))
        paths = [path.parent for one in found for path in sorted(one.glob("*/*/*/*/run.json"))]
        others = [RunDirectory(path) for path in paths if path != cell.out]
        _take_over(directory, prepared.facts, others)

    def show(stage: str, done: int, total: int) -> None:
        progress(f"{cell.name}: {stage}", done, total)

    results = run(prepared.config, command=command, overwrite=False, unsafe=unsafe, progress=show)
    assert results is not None, "a bench is one process, and the first has results"
    return results.summary


def _is_finished(prepared: Prepared, directory: RunDirectory) -> bool:
    """Whether this very configuration was run to its end, and no judge failed (UKE) in it."""
    # The report is written last, and removed before a run goes on.
    if not (directory.report.is_file() and directory.config.is_file()):
        return False
    paths = {name: getattr(prepared.config, name) for name in _WITH_PATHS}
    if load_config(directory.config).model_copy(update=paths) != prepared.config:
        return False
    facts = prepared.facts
    verdicts = read(directory.verdicts, VerdictRecord.from_row)
    seen = complete_look(facts, verdicts.keys())
    if seen is None or any(one.judge_failed for one in verdicts.values()):
        return False
    if not has_all_arms(directory, prepared.config):  # a table was made of a run that was killed
        return False
    return seen.is_last or read_summary(directory).decided


def _check_device(cell: Cell, prepared: Prepared) -> None:
    """Refuse to give a run up only because, today, a GPU is or is not in sight."""
    try:
        before = RunDirectory(cell.out).read_facts().config.get("device")
    except RecordsError:  # of another version of this program: it can only be made anew
        return
    now = prepared.facts.config["device"]
    if cell.bench.device == "auto" and {before, now} == {"cpu", "cuda"}:
        raise RunDirectoryError(
            f"{cell.out}: was made with device {before}, and device: auto is {now} on this "
            f"machine. Start the bench where {before} is found, or write device: {now} into its "
            "configuration to make the run anew"
        )


def _set_aside(cell: Cell) -> None:
    """Move an outdated run away; what is still right of it is taken over from there."""
    earlier = cell.bench.out / "earlier" / cell.name
    with locked(cell.out):
        shutil.rmtree(earlier, ignore_errors=True)
        earlier.parent.mkdir(parents=True, exist_ok=True)
        cell.out.rename(earlier)


def _take_over(directory: RunDirectory, facts: RunFacts, others: Iterable[RunDirectory]) -> None:
    """Append to a run the records that it lacks and other, readable, runs have."""
    for other in others:
        try:
            _take_from(directory, facts, other)
        except RecordsError as error:
            _log.warning("%s: its records are not used: %s", other.path, error)


def _take_from(directory: RunDirectory, facts: RunFacts, other: RunDirectory) -> None:
    others = other.read_facts()
    theirs = {maker: name for name, maker in maker_ids(others).items()}
    mine = maker_ids(facts).items()
    pairs = [(name, theirs[maker]) for name, maker in mine if maker in theirs]
    read_completion, read_verdict = GenerationRecord.from_row, VerdictRecord.from_row
    completions = _lacking(directory.generations, other.generations, read_completion, pairs)
    judged = [(run.suite_digest, run.config.get("judge")) for run in (facts, others)]
    same = pairs if judged[0] == judged[1] else ()
    verdicts = _lacking(directory.verdicts, other.verdicts, read_verdict, same)
    verdicts = [verdict for verdict in verdicts if not verdict.judge_failed]
    if completions or verdicts:  # before the records: the report names what made them
        known = directory.sessions()
        for session in other.sessions():
            if session not in known:
                directory.add_session(session)
    append(directory.generations, completions)
    append(directory.verdicts, verdicts)


def _lacking(
    mine: Path,
    theirs: Path,
    from_row: Callable[[dict[str, Any]], _Record],
    pairs: Sequence[tuple[str, str]],
) -> list[_Record]:
    """Their records of arms that are the same here, under the names here, without those we have."""
    have = read(mine, from_row)
    return [
        record
        for found in read(theirs, from_row).values()
        for here, there in pairs
        if found.arm == there and (record := replace(found, arm=here)).key not in have
    ]
