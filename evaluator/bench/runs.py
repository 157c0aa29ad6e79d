"""Runs of a bench: which are finished, and how another one is made or goes on."""

import shutil
from enum import StrEnum

from evaluator.bench.plan import Cell
from evaluator.bench.reuse import take_over
from evaluator.config.config_file import dump_config
from evaluator.config.run_config import load_config
from evaluator.errors import RecordsError, RunDirectoryError
from evaluator.progress import Progress
from evaluator.report.results import read_summary
from evaluator.report.summary import RunSummary
from evaluator.run import Prepared, run
from evaluator.store.lock import locked
from evaluator.store.records import VerdictRecord, read
from evaluator.store.run_directory import RunDirectory

# Fields that hold paths; what lies there is pinned by the run's facts.
_WITH_PATHS = ("out", "suite", "arms", "factor_store", "judge")


class RunState(StrEnum):
    """What lies in a run's directory."""

    MISSING = "missing"
    BEGUN = "begun"
    OUTDATED = "outdated"
    FINISHED = "finished"


def state_of(prepared: Prepared) -> tuple[RunState, str]:
    """What lies in a run's directory, and for an outdated run what has changed."""
    directory = RunDirectory(prepared.config.out)
    directory.check_usable(overwrite=False)
    if not directory.facts.exists():
        return RunState.MISSING, ""
    if differences := directory.differences(prepared.facts):
        return RunState.OUTDATED, "; ".join(differences[:2])
    if _is_finished(prepared, directory):
        return RunState.FINISHED, ""
    return RunState.BEGUN, ""


def make_run(
    cell: Cell, prepared: Prepared, *, command: str, unsafe: bool, progress: Progress
) -> RunSummary:
    """Make a run, go on with it, or only read it where it is finished.

    Raises:
        RunDirectoryError: The run was made on another kind of device than ``auto`` finds here.
        TinyLoRAError: As ``run``.
    """
    directory = RunDirectory(cell.out)
    state, _ = state_of(prepared)
    if state is RunState.FINISHED:
        return read_summary(directory)
    if state is RunState.OUTDATED:
        _check_device(cell, prepared)
        _set_aside(cell)
    directory.path.mkdir(parents=True, exist_ok=True)
    with locked(directory.path):
        directory.report.unlink(missing_ok=True)
        directory.begin(prepared.facts, dump_config(prepared.config), overwrite=False)
        take_over(directory, prepared.facts, _other_runs(cell))
    results = run(
        prepared.config, command=command, overwrite=False, unsafe=unsafe, progress=progress
    )
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
    wanted = len(facts.arms) * len(facts.problems) * facts.samples
    return len(verdicts) == wanted and not any(one.judge_failed for one in verdicts.values())


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
    shutil.rmtree(cell.earlier, ignore_errors=True)
    cell.earlier.parent.mkdir(parents=True, exist_ok=True)
    with locked(cell.out):
        cell.out.rename(cell.earlier)


def _other_runs(cell: Cell) -> list[RunDirectory]:
    found = [
        path.parent
        for folder in ("runs", "earlier")
        for path in sorted((cell.bench.out / folder).glob("*/*/*/*/run.json"))
    ]
    return [RunDirectory(path) for path in found if path != cell.out]
