"""What the command line prints: plain texts, tables, progress and errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
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

from tinylora.errors import TinyLoRAError

if TYPE_CHECKING:
    from evaluator.report.text_table import TextTable

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class _PlainConsole(Console):
    """Prints texts of files as they are: nothing in them is markup or moves the cursor."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Called for every string that is printed, those in tables too."""
        plain = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
        return super().render_str(plain, **options)


screen = _PlainConsole()
err = _PlainConsole(stderr=True)
_WIDE = 160  # columns that the main table needs


def complain(text: str) -> None:
    """Print a line that something is wrong."""
    err.print(text, style="red", soft_wrap=True)


class Bars:
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
def progress_bars() -> Iterator[Bars]:
    """Bars on standard error, inside the ``with``."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=err)
    try:
        yield Bars(progress)
    finally:
        if progress.live.is_started:
            progress.stop()


@contextmanager
def errors_explained() -> Iterator[None]:
    """End with exit code 2 and the message where the project raises an error."""
    try:
        yield
    except TinyLoRAError as error:
        complain(f"error: {error}")
        raise typer.Exit(2) from error


def fitting(arms: "TextTable", key: tuple[str, ...] = ("arm",)) -> list["TextTable"]:
    """A table of arms, in two where the screen is narrow, both with the columns of the key."""
    if screen.width >= _WIDE:
        return [arms]
    compared = ("gained / lost", "difference [95 %]", "p", "verdict")
    own = [name for name in arms.header if name not in compared]
    return [arms.select(arms.title, own), arms.select("Against the reference", (*key, *compared))]


def rich_table(table: "TextTable") -> Table:
    """A table for the screen."""
    shown = Table(title=table.title, title_justify="left")
    for index, name in enumerate(table.header):
        shown.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    return shown
