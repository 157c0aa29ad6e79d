"""What both command lines share: plain text, tables, progress, JSON, errors, and how they end.

Exit codes: 0 done, 1 a check or a part failed, 2 an error that the message explains, 130 Ctrl-C,
143 SIGTERM.
"""

import codecs
import io
import json
import logging
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from tinylora.errors import NO_ROOM, TinyLoRAError
from tinylora.installed import strangers, unmet
from tinylora.models.find_model import Hub

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# For consoles that have no such characters: GBK lacks the first, ASCII all.
_SPELLED = {"−": "-", "–": "-", "—": "-", "•": "*", "×": "x", "±": "+-", "≥": ">=", "≤": "<="}
_SPELLED |= {"δ": "delta", "Δ": "Delta", "‖": "||", "→": "->", "…": "...", "⟨": "<", "⟩": ">"}
_SECONDS_BETWEEN_LINES = 30

Json = Annotated[
    bool, typer.Option("--json", help="For programs: one JSON object on stdout, see docs/json.md.")
]
Download = Annotated[
    Hub | None, typer.Option(help="Download models from there that no cache on this machine has.")
]


class PlainConsole(Console):
    """Prints texts of files as they are: nothing in them is markup or moves the cursor."""

    shows_progress = True

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Called for all that is printed: strings, cells of tables, and rich text, as logs are."""
        for segment in super().render(renderable, options):
            text = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], segment.text)
            yield segment if segment.control else Segment(text, segment.style)


screen = PlainConsole()
err = PlainConsole(stderr=True)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: characters that an encoding lacks, in ASCII."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_SPELLED.get(c) or ascii(c)[1:-1] for c in lacking), error.end


codecs.register_error("spelled", _spelled)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("tinylora-export"))
        raise typer.Exit


def start(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show results and errors, no progress.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """The options before the command; what is said of work in progress."""
    from rich.logging import RichHandler

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")
    err.shows_progress = not quiet
    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=err, show_path=False)],
    )
    if found := strangers():
        complain(f"Error: {found}")
        raise typer.Exit(2)


@contextmanager
def command(
    as_json: bool, kept: str, failed: tuple[type[TinyLoRAError], ...] = ()
) -> Iterator[None]:
    """What a command does, in here: errors, Ctrl-C and SIGTERM end it with words and a code.

    ``kept`` says what is left after an interruption and how to go on; ``failed`` are the errors
    that say that a check failed.
    """
    try:
        with _ends_by_sigterm():
            yield
    except KeyboardInterrupt as stop:
        _fail(as_json, "Interrupted", f"Interrupted. {kept}")
        raise typer.Exit(128 + (stop.args[0] if stop.args else signal.SIGINT)) from stop
    except TinyLoRAError as error:
        _fail(as_json, type(error).__name__, str(error))
        raise typer.Exit(1 if isinstance(error, failed) else 2) from error
    except OSError as error:
        is_full = error.errno in NO_ROOM  # of which a write does not say the file
        if error.strerror is None or not (error.filename or is_full):
            raise
        where = f"{error.filename}: " if error.filename else ""
        remedy = "make room or choose another place, and run the same command again"
        _fail(as_json, "OSError", f"{where}{error.strerror}; {remedy}. {kept}")
        raise typer.Exit(2) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if not (lacking := unmet()):
            raise  # a bug of ours
        found = ", ".join(f"{wanted} (found {here})" for wanted, here in lacking.items())
        remedy = " ".join(map(shlex.quote, lacking))
        text = f"this needs {found}; pip install {remedy}. What failed: {error!r:.300}"
        _fail(as_json, "UnmetRequirement", text)
        raise typer.Exit(2) from error


def print_json(fields: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output, in ASCII where that has not all of Unicode."""
    is_ascii = not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    text = json.dumps(fields, indent=2, ensure_ascii=is_ascii, allow_nan=False, default=str)
    typer.echo(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def say(text: str) -> None:
    """Print a sentence whose lines the terminal breaks, so that a path in it can be copied."""
    screen.print(text, soft_wrap=True)


def complain(text: str) -> None:
    """Print a line that something is wrong."""
    err.print(text, style="red", soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning, which does not end the work."""
    err.print(f"Warning: {text}", style="yellow", soft_wrap=True)


def show_table(
    title: str | None, header: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1
) -> None:
    """Print a table; where the screen is narrow, in parts that all have the first ``keys`` columns.

    The first column is aligned left, the others right.
    """
    widths = [
        max(cell_len(line) for row in (header, *rows) for line in (row[i].splitlines() or [""])) + 3
        for i in range(len(header))
    ]
    parts, room = [list(range(keys))], screen.width - 1 - sum(widths[:keys])
    left = room
    for column in range(keys, len(header)):
        if widths[column] > left and len(parts[-1]) > keys:
            parts.append(list(range(keys)))
            left = room
        parts[-1].append(column)
        left -= widths[column]
    for number, part in enumerate(parts):
        shown = Table(title=title if number == 0 else None, title_justify="left")
        for column in part:
            shown.add_column(header[column], justify="right" if column else "left", overflow="fold")
        for row in rows:
            shown.add_row(*(row[column] for column in part))
        screen.print(shown)


class Bars:
    """How far each stage is: a bar in a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._lines: dict[str, tuple[float, float]] = {}

    def __call__(self, stage: str, done: int, total: int, now: str = "") -> None:
        """Tell how far a stage is, and what of it is being done ``now``."""
        if not err.shows_progress:
            return
        if not err.is_terminal:
            self._line(stage, done, total)
            return
        if self._bars is None:  # only now: further processes of a launch stay silent
            self._bars = _progress_bars()
            self._bars.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        text = f"{stage}: {now}" if now else stage
        self._bars.update(self._tasks[stage], completed=done, total=total, description=text)

    def one_at_a_time(self, stage: str, done: int, total: int) -> None:
        """Likewise, and take the bars of a bench's earlier parts off the screen."""
        for earlier in [name for name in self._tasks if name not in ("exports", "runs", stage)]:
            self._bars.remove_task(self._tasks.pop(earlier))
        self(stage, done, total)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()

    def _line(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        began, last = self._lines.get(stage, (now, now))
        if done == total or now - last >= _SECONDS_BETWEEN_LINES:
            text = f"{stage}: {done} of {total} after {_minutes(now - began)}"
            if 0 < done < total:
                text += f", about {_minutes((now - began) * (total - done) / done)} left"
            err.print(text, soft_wrap=True)
            last = now
        self._lines[stage] = (began, last)


def progress_bars() -> closing[Bars]:
    """Progress on standard error, inside the ``with``."""
    return closing(Bars())


def _progress_bars() -> Any:
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=err,
    )


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _fail(as_json: bool, kind: str, message: str) -> None:
    if as_json:
        print_json({"ok": False, "error": {"kind": kind, "message": message}})
    complain(message if kind == "Interrupted" else f"Error: {message}")


@contextmanager
def _ends_by_sigterm() -> Iterator[None]:
    """A request to end unwinds the program, so that what it keeps meanwhile in /tmp is removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before: Callable[..., object] | int | None = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
