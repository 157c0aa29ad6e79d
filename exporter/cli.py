"""``tinylora-export``: merge, inspect, verify."""

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from exporter.compare.retention import Retention
from exporter.errors import CaptureError, RetentionError, TargetResidualError
from exporter.export import ExportReport, export
from exporter.fidelity import FidelityReport, ModuleFidelity
from exporter.inspection import inspect_adapter
from exporter.merge_options import request_of, with_merge_options
from exporter.progress import Progress as ExportProgress
from exporter.request import ExportRequest
from exporter.verification import VerifyReport, verify
from tinylora import TinyLoRAError

app = typer.Typer(
    help="Fold TinyLoRA adapters into standalone checkpoints, and measure what is left of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
_out = Console()
_err = Console(stderr=True)
Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON object, docs/json.md.")]


@app.command()
@with_merge_options
def merge(json_: Json = False, **options: Any) -> None:
    """Export an artifact on its base as a checkpoint that loads by itself."""
    with _failures(json_):
        request = request_of(options)
        with _ends_by_sigterm():
            report = _export_with_bar(request)
        _print_json(_merge_fields(report)) if json_ else _show_report(report)


@app.command()
def inspect(
    artifact: Annotated[Path, typer.Argument(help="tiny_lora_v.pt, or a PEFT directory.")],
    json_: Json = False,
) -> None:
    """Show what is in an artifact, and what about it looks odd. Nothing in it is run."""
    with _failures(json_):
        found = inspect_adapter(artifact)
        if json_:
            _print_json(found.as_dict())
            return
        table = Table("field", "value", title=escape(str(artifact)))
        fields = found.as_dict()
        vector = fields.pop(found.numbers)
        remarks = fields.pop("remarks")
        for name, value in fields.items():
            table.add_row(name, escape(str(value)))
        for name in ("dtype", "norm", "smallest", "largest", "zeros"):
            table.add_row(f"{found.numbers} {name}", str(vector[name]))
        table.add_row("an export takes", found.takes)
        _out.print(table)
        for remark in remarks:
            _out.print(f"- {escape(remark)}")


@app.command(name="verify")
def verify_command(
    directory: Annotated[Path, typer.Argument(help="An export.")],
    load: Annotated[bool, typer.Option("--load", help="Load it with transformers.")] = False,
    base: Annotated[Path | None, typer.Option(help="The base that it was made from.")] = None,
    artifact: Annotated[
        Path | None, typer.Option(help="The adapter; with --base: compare with the restored model.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Texts to compare on, token by token: .jsonl or .txt.")
    ] = None,
    require_retention: Annotated[
        float | None, typer.Option(help="With --prompts: fail if less of the effect is kept.")
    ] = None,
    record: Annotated[
        bool, typer.Option(help="Write the retention to the export's retention.json.")
    ] = True,
    json_: Json = False,
) -> None:
    """Check an export against its manifest; exit 1 if something is wrong."""
    with _failures(json_):
        report = verify(
            directory,
            load=load,
            base=base,
            artifact=artifact,
            prompts=prompts,
            require_retention=require_retention,
            record=record,
        )
        _print_json(_verify_fields(report)) if json_ else _show_verification(report)
        if not report.ok:
            raise typer.Exit(1)


def _export_with_bar(request: ExportRequest) -> ExportReport:
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _unlogged(), Progress(*columns, console=_err, transient=True) as bar:
        task = bar.add_task("reading the base", total=None)

        def show(progress: ExportProgress) -> None:
            text = f"{progress.stage} {escape(progress.module)}"
            bar.update(task, description=text, completed=progress.done, total=progress.total)

        return export(request, show)


def _show_report(report: ExportReport) -> None:
    fidelity = report.fidelity
    table = Table("modules", "capture", "residual", "noise", "bound", "codes moved", "scales")
    groups: dict[str, list[ModuleFidelity]] = {}
    for module in fidelity.modules:
        groups.setdefault(module.module.rsplit(".", 1)[-1], []).append(module)
    for leaf, members in groups.items():
        table.add_row(f"{len(members)} {leaf}", *_cells(FidelityReport(tuple(members), 0)))
    table.add_section()
    table.add_row(f"all {len(fidelity.modules)}", *_cells(fidelity))
    _out.print(table)
    _out.print(
        f"{escape(str(report.out))}: {report.format}, {fidelity.bytes / 1e6:.1f} MB; "
        f"{report.resolved or 'factors as stored in the adapter'}; factors took "
        f"{report.seconds.get('factors', 0):.1f} s"
        + ("" if report.effect_measured else f"; by the weights: delta {report.verdict}")
    )
    if report.needs:
        _say(_out, report.needs)
    if report.choice is not None:
        _say(_out, f"chosen: {escape(report.choice.sentence)}")
    if report.retention is not None:
        _show_retention(report.retention)
    for warning in report.warnings:
        _say(_err, f"[bold yellow]Warning:[/] {escape(warning)}")


def _merge_fields(report: ExportReport) -> dict[str, Any]:
    return {
        "ok": True,
        "out": str(report.out),
        "format": report.format,
        "bytes": report.fidelity.bytes,
        "delta": report.verdict,
        "resolved": report.resolved and str(report.resolved),
        "fidelity": report.fidelity.as_dict()["total"],
        "choice": report.choice and report.choice.sentence,
        "retention": report.retention and report.retention.as_dict(),
        "files": report.files,
        "seconds": dict(report.seconds),
        "warnings": list(report.warnings),
    }


def _verify_fields(report: VerifyReport) -> dict[str, Any]:
    checks = [{"name": c.name, "ok": c.ok, "problems": list(c.problems)} for c in report.checks]
    return {
        "ok": report.ok,
        "directory": str(report.directory),
        "format": report.format,
        "checks": checks,
        "recorded": report.measured,
        "logits": report.logits and vars(report.logits),
        "retention": report.retention and report.retention.as_dict(),
        "warnings": list(report.warnings),
    }


def _print_json(fields: dict[str, Any]) -> None:
    typer.echo(json.dumps(fields, indent=2, ensure_ascii=False))


def _say(console: Console, text: str) -> None:
    """A sentence whose lines the terminal breaks, so that a path in it stays whole for copying."""
    console.print(text, highlight=False, soft_wrap=True)


def _cells(fidelity: FidelityReport) -> list[str]:
    sums, total = fidelity.total, fidelity.as_dict()["total"]
    values = (sums.capture, sums.residual, sums.noise, sums.residual_bound)
    cells = ["-" if value is None else f"{value:.4g}" for value in values]
    counts = (total["codes_moved"], total["scales_changed"])
    return cells + ["-" if count is None else str(count) for count in counts]


def _show_verification(report: VerifyReport) -> None:
    for check in report.checks:
        _out.print(f"{'ok  ' if check.ok else 'FAIL'} {escape(check.name)}")
        for problem in check.problems:
            _say(_err, f"     {escape(problem)}")
    if report.logits is not None:
        found = report.logits
        residual = "-" if found.residual is None else f"{found.residual:.4g}"
        _out.print(
            f"logits against the restored model: largest difference {found.largest:.4g}, residual "
            f"{residual} (1: the delta is gone); the adapter changes logits by {found.change:.4g}"
        )
    if report.retention is not None:
        _show_retention(report.retention)
    _say(_out, f"recorded: {escape(report.measured)}")
    for warning in report.warnings:
        _say(_err, f"[bold yellow]Warning, recorded:[/] {escape(warning)}")


def _show_retention(found: Retention) -> None:
    table = Table("against the restored model", "mean KL", "99 %", "largest", "same first choice")
    for name, d in found.rows:
        numbers = (f"{d.mean:.3g}", f"{d.p99:.3g}", f"{d.largest:.3g}", f"{d.top1_agreement:.2%}")
        table.add_row(name, *numbers)
    _out.print(table)
    _out.print(found.sentence)


@contextmanager
def _unlogged() -> Iterator[None]:
    """The report's warnings are shown with it; without this they would also be logged."""
    loggers = [logging.getLogger(name) for name in ("exporter", "tinylora.restoration.inject")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _ends_by_sigterm() -> Iterator[None]:
    """A request to end unwinds the program, so that what it keeps meanwhile in /tmp is removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _failures(as_json: bool) -> Iterator[None]:
    """Errors of the project go to stderr; exit 1 where a check failed, 2 for anything else."""
    try:
        yield
    except TinyLoRAError as error:
        if as_json:
            kind = {"kind": type(error).__name__, "message": str(error)}
            _print_json({"ok": False, "error": kind})
        _say(_err, f"[bold red]Error:[/] {escape(str(error))}")
        failed = isinstance(error, CaptureError | RetentionError | TargetResidualError)
        raise typer.Exit(1 if failed else 2) from error
