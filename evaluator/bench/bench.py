"""A bench from configuration to one table: exports, and runs with an arm for each export.

Each part is looked at first and made only where it is missing or its inputs have changed. A part
that fails is reported, and the others go on.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from evaluator.bench.config import BenchConfig, load_bench
from evaluator.bench.exports import make_export, request_of, why_not_there
from evaluator.bench.plan import Cell, Export, factors_of, plan_exports, plan_runs
from evaluator.bench.runs import make_run, state_of
from evaluator.bench.table import CellResult, Failure, bench_frame, bench_table
from evaluator.config.config_file import dump_config
from evaluator.errors import BenchError, RunDirectoryError
from evaluator.generation.backend_choice import check_backends
from evaluator.judging.sandbox.sandbox import probe_sandbox
from evaluator.progress import Progress
from evaluator.report.latex import latex_table
from evaluator.report.tables import write_frame
from evaluator.report.text_table import TextTable
from evaluator.run import prepare
from evaluator.store.environment import package_versions
from evaluator.store.lock import locked
from evaluator.store.run_directory import check_directory
from tinylora.errors import TinyLoRAError
from tinylora.files.whole_file import replace_file

_CONFIG = "bench.yaml"
CANNOT = "cannot be made"


@dataclass(frozen=True)
class BenchResults:
    """The table for people, and what could not be made."""

    table: TextTable
    failures: tuple[Failure, ...]


def bench(config: BenchConfig, *, command: str, unsafe: bool, progress: Progress) -> BenchResults:
    """Make all that is missing of a bench, and write its table.

    Raises:
        TinyLoRAError: Nothing can be made: no sandbox, several processes, or the directory takes no
            bench.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise BenchError(
            "a bench runs as one process; start a single run with several (its configuration is "
            "config.yaml in its directory), and the bench goes on from what that wrote"
        )
    _check_directory(config)
    exports = plan_exports(config)
    _check_backends(plan_runs(config, exports))
    probe_sandbox(unsafe)
    config.out.mkdir(parents=True, exist_ok=True)
    with locked(config.out):
        replace_file(config.out / _CONFIG, dump_config(config).encode())
        not_made = _make_exports(config, exports, progress)
        results, failures = _make_runs(config, exports, not_made, command, unsafe, progress)
        failures = (*not_made.values(), *failures)
        table = bench_table(config.name, results)
        write_frame(bench_frame(results), config.out / "tables" / "bench")
        text = "\n".join((table.markdown(), *_failed_lines(failures), _made_by(command)))
        replace_file(config.out / "tables" / "bench.md", text.encode())
        latex = latex_table(table, "bench", _made_by(command))
        replace_file(config.out / "tables" / "bench.tex", latex.encode())
    return BenchResults(table, failures)


def survey(config: BenchConfig) -> TextTable:
    """What a bench would make, what is there and what cannot be made. Nothing is written."""
    _check_directory(config)
    exports = plan_exports(config)
    cells = plan_runs(config, exports)
    _check_backends(cells)
    missing: list[Export] = []
    rows = []
    for export in exports:
        state, reason = _export_state(export)
        if state != "there":
            missing.append(export)
        rows.append(("export", export.name, state, reason))
    for cell in cells:
        rows.append(("run", cell.name, *_run_state(cell, missing)))
    return TextTable(config.name, ("part", "name", "state", "why"), tuple(rows))


def _check_backends(cells: Iterable[Cell]) -> None:
    """Check before any work that the backends can do what every run asks of them."""
    for cell in cells:
        check_backends(cell.run_config(cell.exports))


def _export_state(export: Export) -> tuple[str, str]:
    try:
        reason = why_not_there(export, request_of(export))
    except TinyLoRAError as error:
        return CANNOT, str(error)
    return ("to make" if reason else "there"), reason


def _run_state(cell: Cell, missing: Collection[Export]) -> tuple[str, str]:
    waiting = [export.format.name for export in cell.exports if export in missing]
    if waiting:
        return "to make", f"after its exports: {', '.join(waiting)}"
    try:
        state, reason = state_of(prepare(cell.run_config(cell.exports)))
    except TinyLoRAError as error:
        return CANNOT, str(error)
    return str(state), reason


def _make_exports(
    config: BenchConfig, exports: tuple[Export, ...], progress: Progress
) -> dict[Export, Failure]:
    failures = {}
    for done, export in enumerate(exports):
        progress("exports", done, len(exports))
        try:
            request = request_of(export)
            if why_not_there(export, request):
                progress(f"export {export.name}", 0, 1)
                make_export(export, request, factors_of(config))
        except TinyLoRAError as error:
            failures[export] = Failure(f"export {export.name}", str(error))
    progress("exports", len(exports), len(exports))
    return failures


def _make_runs(
    config: BenchConfig,
    exports: tuple[Export, ...],
    not_made: Mapping[Export, Failure],
    command: str,
    unsafe: bool,
    progress: Progress,
) -> tuple[tuple[CellResult, ...], tuple[Failure, ...]]:
    cells = plan_runs(config, exports)
    results, failures = [], []
    for done, cell in enumerate(cells):
        progress("runs", done, len(cells))
        absent = tuple(export for export in cell.exports if export in not_made)

        def show(stage: str, done: int, total: int, name: str = cell.name) -> None:
            progress(f"{name}: {stage}", done, total)

        summary = None
        try:
            prepared = prepare(cell.run_config([e for e in cell.exports if e not in not_made]))
            summary = make_run(cell, prepared, command=command, unsafe=unsafe, progress=show)
        except TinyLoRAError as error:
            failures.append(Failure(f"run {cell.name}", str(error)))
        results.append(CellResult(cell, summary, absent))
    progress("runs", len(cells), len(cells))
    return tuple(results), tuple(failures)


def _check_directory(config: BenchConfig) -> None:
    """Refuse a directory of something else, and another margin than the first start's."""
    check_directory(config.out, _CONFIG, "bench")
    if not (config.out / _CONFIG).exists():
        return
    before = load_bench(config.out / _CONFIG).equivalence.margin
    if before != config.equivalence.margin:
        raise RunDirectoryError(
            f"{config.out}: field equivalence.margin was {before} when this bench began and is "
            f"{config.equivalence.margin} now; a margin is fixed before the first run. Choose "
            "another out, or delete this one"
        )


def _failed_lines(failures: tuple[Failure, ...]) -> list[str]:
    if not failures:
        return []
    return ["## Failed", "", *(f"- {f.part}: {f.message}" for f in failures), ""]


def _made_by(command: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return f"Made by `{command}` with {versions}.\n"
