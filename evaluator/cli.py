"""The command ``tinylora-eval``.

Exit codes: 0 done, 1 a part failed (of a bench, or rows of a file of completions), 2 an error
that the message explains. Paths in a configuration are resolved against the current directory.

Models and statistics take seconds to import and ``judge`` needs neither, so each command imports
what it uses.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.judge_file import judge_completions
from tinylora.errors import TinyLoRAError

if TYPE_CHECKING:
    from evaluator.report.results import Results
    from evaluator.report.text_table import TextTable

app = typer.Typer(
    help="Generate, judge and compare: does an exported checkpoint still solve its problems?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class _PlainConsole(Console):
    """Prints texts of files as they are: nothing in them is markup or moves the cursor."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Called for every string that is printed, those in tables too."""
        plain = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
        return super().render_str(plain, **options)


_out = _PlainConsole()
_err = _PlainConsole(stderr=True)
_WIDE = 160  # columns that the main table needs
_LISTED = 10  # rows of completions that are named when they are not judged

Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe",
        help="Judge without isolation where no sandbox works. Programs then run with your rights.",
    ),
]


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=_err, show_path=False)],
    )


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The run's YAML file.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the records of an earlier run first.")
    ] = False,
    unsafe: Unsafe = False,
) -> None:
    """Make a run: completions, verdicts, statistics, tables. A killed run goes on."""
    from evaluator.config.run_config import load_config

    with _errors_explained():
        settings = load_config(config)  # before what takes seconds to import
        from evaluator.run import run as make_run
        from evaluator.store.environment import command_line

        _quiet_transformers()
        with _progress_bars() as progress:
            results = make_run(
                settings,
                command=command_line(),
                overwrite=overwrite,
                unsafe=unsafe,
                progress=progress,
            )
        if results is not None:  # a further process of a launch has none
            _show(results, settings.out)


@app.command()
def table(
    run_dir: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
) -> None:
    """Compute statistics and tables of a finished run again; needs no model."""
    from evaluator.report.results import write_results
    from evaluator.store.run_directory import RunDirectory

    with _errors_explained():
        _show(write_results(RunDirectory(run_dir)), run_dir)


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="File or directory of a form that docs/suites.md names.")
    ],
    out: Annotated[Path, typer.Option(help="Directory for the suite.")],
    form: Annotated[
        str | None, typer.Option(help="Form of the source; detected otherwise.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the suite.")] = None,
    statements: Annotated[
        Path | None, typer.Option(help="Statements for test data: <id>.md files, or rows.")
    ] = None,
    time_limit_ms: Annotated[int, typer.Option(min=1, help="Where none is given.")] = 1000,
    memory_limit_mib: Annotated[int, typer.Option(min=1, help="Where none is given.")] = 128,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a suite.")] = False,
) -> None:
    """Make a suite of problems from elsewhere, and list what cannot be judged."""
    from evaluator.suites.import_suite import ImportOptions, import_suite, report_lines
    from evaluator.suites.importers.drafts_to_problems import DefaultLimits

    with _errors_explained():
        options = ImportOptions(
            form=form,
            name=name,
            limits=DefaultLimits(time_limit_ms, memory_limit_mib * 1024),
            statements=statements,
            overwrite=overwrite,
        )
        for line in report_lines(import_suite(source, out, options)):
            _out.print(line, soft_wrap=True)


@app.command()
def plan(
    margin: Annotated[float, typer.Option(help="δ of the equivalence test; 0.02 is 2 points.")],
    flip_rate: Annotated[
        float, typer.Option(help="Share of samples that flip between equal arms; 0.02 is 2 %.")
    ],
    power: Annotated[float, typer.Option(help="Chance of `match` where arms are equal.")] = 0.8,
    samples: Annotated[int, typer.Option(help="Samples of each problem.")] = 1,
    correlation: Annotated[
        float, typer.Option(help="Of the differences of two samples of one problem.")
    ] = 0.0,
) -> None:
    """Say how many problems a run needs, before it is made."""
    from evaluator.plan import make_plan

    with _errors_explained():
        made = make_plan(margin, flip_rate, power, samples, correlation)
        _out.print(_rich_table(made.table))
        for sentence in made.sentences:
            _out.print(f"• {sentence}")


@app.command()
def bench(
    config: Annotated[Path, typer.Argument(help="The bench's YAML file.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be made and what is there.")
    ] = False,
    unsafe: Unsafe = False,
) -> None:
    """Export and run what is missing of artifacts × formats × suites × decodings: one table."""
    from evaluator.bench.config import load_bench

    with _errors_explained():
        settings = load_bench(config)  # before what takes seconds to import
        from evaluator.bench.bench import CANNOT, survey
        from evaluator.bench.bench import bench as make_bench
        from evaluator.bench.table import BENCH_KEY
        from evaluator.store.environment import command_line

        _quiet_transformers()
        if dry_run:
            found = survey(settings)
            _out.print(_rich_table(found))
            if any(CANNOT in row for row in found.rows):
                raise typer.Exit(1)
            return
        with _progress_bars() as bars:
            results = make_bench(
                settings, command=command_line(), unsafe=unsafe, progress=bars.one_at_a_time
            )
        for part in _fitting(results.table, key=BENCH_KEY):
            _out.print(_rich_table(part))
        _out.print(f"Tables, exports and runs: {settings.out}")
        for failure in results.failures:
            _err.print(f"failed: {failure.part}: {failure.message}", style="red")
        if results.failures:
            raise typer.Exit(1)


@app.command()
def judge(
    suite: Annotated[
        Path, typer.Option(help="Suite folder, or a file or folder that could be imported as one.")
    ],
    completions: Annotated[
        Path, typer.Option(help="Rows {problem, sample, completion}: JSON, also .gz, or Parquet.")
    ],
    out: Annotated[Path, typer.Option(help="Directory for judge.json and verdicts.jsonl.")],
    standard: Annotated[str, typer.Option(help="C++ standard.")] = JudgeSettings.standard,
    workers: Annotated[int | None, typer.Option(help="Programs at a time; all cores.")] = None,
    strip_freopen: Annotated[
        bool, typer.Option("--strip-freopen", help="Remove calls of freopen, as upstream does.")
    ] = False,
    testlib: Annotated[Path | None, typer.Option(help="testlib.h for special judges.")] = None,
    checker_standard: Annotated[
        str, typer.Option(help="C++ standard of special judges.")
    ] = JudgeSettings.checker_standard,
    checker_compile_seconds: Annotated[
        int, typer.Option(min=1, help="CPU seconds to compile a special judge.")
    ] = JudgeSettings.checker_compile_cpu_ms // 1000,
    unsafe: Unsafe = False,
) -> None:
    """Judge a file of completions; needs no model. A killed call goes on."""
    with _errors_explained():
        settings = JudgeSettings(
            standard=standard,
            workers=workers,
            strip_freopen=strip_freopen,
            testlib_path=testlib,
            checker_standard=checker_standard,
            checker_compile_cpu_ms=1000 * checker_compile_seconds,
            unsafe=unsafe,
        )
        with _progress_bars() as bars:
            summary = judge_completions(
                suite,
                completions,
                out,
                settings,
                progress=lambda done, total: bars("judge", done, total),
            )
        passed = summary.counts.get("AC", 0)
        counts = ", ".join(f"{verdict} {count}" for verdict, count in summary.counts.items())
        _out.print(f"{passed} of {summary.total} pass: {counts}")
        _out.print(f"Without code: {summary.without_code}")
        share = summary.chosen / summary.total
        _out.print(f"One of several programs chosen: {summary.chosen} ({share:.1%})")
        _out.print(f"Verdicts: {summary.verdicts_path}")
        for row in summary.not_judged[:_LISTED]:
            text = f"not judged: {completions}, {row.where}: {row.reason}"
            _err.print(text, style="red", soft_wrap=True)
        if summary.not_judged:
            listed = summary.verdicts_path.with_name("not_judged.jsonl")
            text = f"not judged, in all: {len(summary.not_judged)} ({listed})"
            _err.print(text, style="red", soft_wrap=True)
            raise typer.Exit(1)


def _quiet_transformers() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # Its int8 layers say at every call that they round activations.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


class _Bars:
    """One bar a stage, made when the stage is first heard of."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Move the stage's bar."""
        if stage not in self._tasks:
            self._progress.start()  # only now: further processes of a launch stay silent
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done)

    def one_at_a_time(self, stage: str, done: int, total: int) -> None:
        """Move the stage's bar, and take the bars of a bench's earlier parts off the screen."""
        for earlier in [name for name in self._tasks if name not in ("exports", "runs", stage)]:
            self._progress.remove_task(self._tasks.pop(earlier))
        self(stage, done, total)


@contextmanager
def _progress_bars() -> Iterator[_Bars]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=_err)
    try:
        yield _Bars(progress)
    finally:
        if progress.live.is_started:
            progress.stop()


@contextmanager
def _errors_explained() -> Iterator[None]:
    try:
        yield
    except TinyLoRAError as error:
        _err.print(f"error: {error}", style="red", soft_wrap=True)
        raise typer.Exit(2) from error


def _show(results: "Results", out: Path) -> None:
    arms, *others = results.tables
    for text_table in (*_fitting(arms), *others):
        _out.print(_rich_table(text_table))
    for sentence in results.sentences:
        _out.print(f"• {sentence}")
    _out.print(f"\nTables and records: {out}")


def _fitting(arms: "TextTable", key: tuple[str, ...] = ("arm",)) -> list["TextTable"]:
    """A table of arms, in two where the screen is narrow, both with the columns of the key."""
    if _out.width >= _WIDE:
        return [arms]
    compared = ("gained / lost", "difference [95 %]", "p", "verdict")
    own = [name for name in arms.header if name not in compared]
    return [arms.select(arms.title, own), arms.select("Against the reference", (*key, *compared))]


def _rich_table(table: "TextTable") -> Table:
    shown = Table(title=table.title, title_justify="left")
    for index, name in enumerate(table.header):
        shown.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    return shown
