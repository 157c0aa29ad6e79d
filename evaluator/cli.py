"""The command ``tinylora-eval``.

Exit codes: 0 done, 2 an error that the message explains. Paths in a configuration are resolved
against the current directory.

Models and statistics take seconds to import and ``judge`` needs neither, so each command imports
what it uses.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

from evaluator.judge_file import judge_completions
from evaluator.judge_settings import JudgeSettings
from tinylora.errors import TinyLoRAError

if TYPE_CHECKING:
    from evaluator.report import Results
    from evaluator.tables import TextTable

app = typer.Typer(
    help="Generate, judge and compare: does an exported checkpoint still solve its problems?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)
_WIDE = 160  # columns that the main table needs

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
    from transformers.utils import logging as transformers_logging

    from evaluator.config import load_config
    from evaluator.environment import command_line
    from evaluator.run import run as make_run

    transformers_logging.disable_progress_bar()
    with _errors_explained():
        settings = load_config(config)
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
    from evaluator.report import write_results
    from evaluator.run_directory import RunDirectory

    with _errors_explained():
        _show(write_results(RunDirectory(run_dir)), run_dir)


@app.command()
def judge(
    suite: Annotated[Path, typer.Option(help="Suite folder or upstream .jsonl file.")],
    completions: Annotated[
        Path, typer.Option(help="JSON lines {problem, sample, completion}, from any generator.")
    ],
    out: Annotated[Path, typer.Option(help="Directory for judge.json and verdicts.jsonl.")],
    standard: Annotated[str, typer.Option(help="C++ standard.")] = "c++14",
    workers: Annotated[int | None, typer.Option(help="Programs at a time; all cores.")] = None,
    strip_freopen: Annotated[
        bool, typer.Option("--strip-freopen", help="Remove calls of freopen, as upstream does.")
    ] = False,
    testlib: Annotated[Path | None, typer.Option(help="testlib.h for special judges.")] = None,
    unsafe: Unsafe = False,
) -> None:
    """Judge a file of completions; needs no model. A killed call goes on."""
    with _errors_explained():
        settings = JudgeSettings(
            standard=standard,
            workers=workers,
            strip_freopen=strip_freopen,
            testlib_path=testlib,
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
        _out.print(f"{passed} of {summary.total} pass: {counts}", highlight=False)
        _out.print(f"Without code: {summary.without_code}", highlight=False)
        _out.print(f"Verdicts: {summary.verdicts_path}", markup=False, highlight=False)


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


@contextmanager
def _progress_bars() -> Iterator[_Bars]:
    columns = (
        TextColumn("{task.description}"),
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
        _err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def _show(results: "Results", out: Path) -> None:
    arms, *others = results.tables
    for text_table in (*_fitting(arms), *others):
        _out.print(_rich_table(text_table))
    for sentence in results.sentences:
        _out.print(f"• {sentence}", markup=False, highlight=False)
    _out.print(f"\nTables and records: {out}", markup=False, highlight=False)


def _fitting(arms: "TextTable") -> list["TextTable"]:
    """The main table, in two where the screen is narrow."""
    if _out.width >= _WIDE:
        return [arms]
    compared = ("gained / lost", "difference [95 %]", "p", "verdict")
    own = [name for name in arms.header if name not in compared]
    return [arms.select(arms.title, own), arms.select("Against the reference", ("arm", *compared))]


def _rich_table(table: "TextTable") -> Table:
    shown = Table(title=table.title, title_justify="left")
    for index, name in enumerate(table.header):
        shown.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    return shown
