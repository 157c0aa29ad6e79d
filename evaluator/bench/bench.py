"""A bench from configuration to one table: exports, and runs with an arm for each export.

Each part is made only where it is missing or its inputs have changed. One that fails is reported.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from evaluator.bench.config import BenchConfig, load_bench
from evaluator.bench.exports import inputs_of, make_export, why_not_there
from evaluator.bench.plan import Cell, Export, plan_exports, plan_runs
from evaluator.bench.runs import make_run, state_of
from evaluator.bench.table import CellResult, bench_frame, bench_table
from evaluator.config.config_file import dump_config
from evaluator.errors import BenchError, RunDirectoryError
from evaluator.generation.backends import check_backends
from evaluator.generation.prepare import prepare
from evaluator.judging.sandbox.sandbox import probe_sandbox
from evaluator.progress import Progress
from evaluator.report.latex import latex_table
from evaluator.report.tables import write_frame
from evaluator.report.text_table import TextTable
from evaluator.store.environment import package_versions
from evaluator.store.lock import locked
from evaluator.store.run_directory import check_directory
from tinylora.errors import TinyLoRAError
from tinylora.files.whole_file import replace_file

_CONFIG = "bench.yaml"
CANNOT = "cannot be made"


class BenchResults(NamedTuple):
    """The table for people, and why parts of the bench could not be made, by their names."""

    table: TextTable
    failures: Mapping[str, str]


def bench(config: BenchConfig, *, command: str, unsafe: bool, progress: Progress) -> BenchResults:
    """Make all that is missing of a bench, and write its table."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise BenchError(
            "a bench runs as one process; start a single run with several (its configuration is "
            "config.yaml in its directory), and the bench goes on from what that wrote"
        )
    exports, cells = _checked_plan(config)
    probe_sandbox(unsafe)
    config.out.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}
    results = []
    with locked(config.out):
        replace_file(config.out / _CONFIG, dump_config(config).encode())
        for done, export in enumerate(exports):
            progress("exports", done, len(exports))
            with _failure_noted(failures, f"export {export.name}"):
                progress(f"export {export.name}", 0, 1)
                make_export(export)
        progress("exports", len(exports), len(exports))
        for done, cell in enumerate(cells):
            progress("runs", done, len(cells))
            absent = tuple(e for e in cell.exports if f"export {e.name}" in failures)
            summary = None
            with _failure_noted(failures, f"run {cell.name}"):
                prepared = prepare(cell.run_config([e for e in cell.exports if e not in absent]))
                summary = make_run(cell, prepared, command, unsafe, progress)
            results.append(CellResult(cell, summary, absent))
        progress("runs", len(cells), len(cells))
        table = bench_table(config.name, results)
        _write(config, table, results, failures, command)
    return BenchResults(table, failures)


def survey(config: BenchConfig) -> TextTable:
    """What a bench would make, what is there and what cannot be made. Nothing is written."""
    exports, cells = _checked_plan(config)
    states = [(export, *_state(export)) for export in exports]
    missing = [export for export, state, _ in states if state != "there"]
    rows = [("export", export.name, state, why) for export, state, why in states]
    rows += [("run", cell.name, *_state(cell, missing)) for cell in cells]
    return TextTable(config.name, ("part", "name", "state", "why"), tuple(rows))


@contextmanager
def _failure_noted(failures: dict[str, str], part: str) -> Iterator[None]:
    try:
        yield
    except (TinyLoRAError, OSError) as error:
        failures[part] = str(error)


def _checked_plan(config: BenchConfig) -> tuple[Sequence[Export], Sequence[Cell]]:
    """Exports and runs; checked before any work, also that the backends can do what is asked."""
    _check_directory(config)
    exports = plan_exports(config)
    cells = plan_runs(config, exports)
    for cell in cells:
        check_backends(cell.run_config(cell.exports))
    return exports, cells


def _state(part: Export | Cell, missing: Collection[Export] = ()) -> tuple[str, str]:
    try:
        if isinstance(part, Export):
            reason = why_not_there(part, inputs_of(part))
            return ("to make" if reason else "there"), reason
        if waiting := [export.format.name for export in part.exports if export in missing]:
            return "to make", f"after its exports: {', '.join(waiting)}"
        return state_of(prepare(part.run_config(part.exports)))
    except (TinyLoRAError, OSError) as error:
        return CANNOT, str(error)


def _check_directory(config: BenchConfig) -> None:
    """Refuse a directory of something else, and other margins or looks than the first start's."""
    check_directory(config.out, _CONFIG, "bench")
    if not (config.out / _CONFIG).exists():
        return
    before = load_bench(config.out / _CONFIG).equivalence.model_dump()
    for name, now in config.equivalence.model_dump().items():
        if before[name] != now:
            raise RunDirectoryError(
                f"{config.out}: field equivalence.{name} was {before[name]} when this bench began "
                f"and is {now} now; it is fixed before the first run. Choose another out, or "
                "delete this one"
            )


def _write(
    config: BenchConfig,
    table: TextTable,
    results: Sequence[CellResult],
    failures: Mapping[str, str],
    command: str,
) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    made_by = f"Made by `{command}` with {versions}.\n"
    failed = [f"- {part}: {message}" for part, message in failures.items()]
    lines = (table.markdown(), *(["## Failed", "", *failed, ""] if failed else ()), made_by)
    stem = config.out / "tables" / "bench"
    write_frame(bench_frame(results), stem)
    replace_file(stem.with_suffix(".md"), "\n".join(lines).encode())
    replace_file(stem.with_suffix(".tex"), latex_table(table, "bench", made_by).encode())
