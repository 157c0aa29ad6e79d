"""``tinylora-export``: each command imports what it uses, as torch takes seconds.

Exit codes: :mod:`tinylora.terminal`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exporter.errors import CaptureError, RetentionError, TargetResidualError
from exporter.formats.registry import format_named
from exporter.merge_options import request_of, with_merge_options
from tinylora.models.find_model import find_model
from tinylora.terminal import (
    Download,
    Json,
    command,
    complain,
    print_json,
    progress_bars,
    say,
    screen,
    show_table,
    start,
    warn,
)

if TYPE_CHECKING:
    from exporter.compare.retention import Retention
    from exporter.fidelity import FidelityReport, ModuleFidelity
    from exporter.make_export import ExportReport
    from exporter.progress import Progress
    from exporter.request import ExportRequest
    from exporter.serving import Engine
    from exporter.verification import VerifyReport

app = typer.Typer(
    help="Fold TinyLoRA adapters into standalone checkpoints, and measure what is left of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.callback()(start)
_FAILED = (CaptureError, RetentionError, TargetResidualError)


@app.command()
@with_merge_options
def merge(
    push_to_hub: Annotated[
        str | None, typer.Option(help="Then upload it to this repository of Hugging Face.")
    ] = None,
    download: Download = None,
    json_: Json = False,
    **options: Any,
) -> None:
    """Export an artifact on its base as a checkpoint that loads by itself."""
    kept = (
        f"Shards that were finished are kept beside --out "
        f"({options['out'].name}.partial-export); the same "
        "command goes on from there."
    )
    with command(json_, kept, _FAILED):
        from exporter.push_to_hub import check_push, push

        if push_to_hub is not None:
            check_push(push_to_hub)
        options["base"] = str(find_model(options["base"], download))
        report = _export_with_bar(request_of(options))
        if not json_:
            _show_report(report)
        address = None
        if push_to_hub is not None:
            remedy = f"to upload it: hf upload {push_to_hub} {report.out}"
            with command(json_, f"{report.out} is whole; {remedy}"):
                address = push(report.out, push_to_hub)
        if json_:
            print_json(_merge_fields(report) | {"pushed_to": address})
        elif address is not None:
            say(f"uploaded to {address}")


@app.command()
def inspect(
    artifact: Annotated[Path, typer.Argument(help="tiny_lora_v.pt, or a PEFT directory.")],
    json_: Json = False,
) -> None:
    """Show what is in an artifact, and what about it looks odd. Nothing in it is run."""
    with command(json_, "Nothing was written."):
        from exporter.inspection import inspect_adapter

        found = inspect_adapter(artifact)
        if json_:
            print_json(found.as_dict())
            return
        fields = found.as_dict()
        vector = fields.pop(found.numbers)
        remarks = fields.pop("remarks")
        rows = [(name, str(value)) for name, value in fields.items()]
        for name in ("dtype", "norm", "smallest", "largest", "zeros"):
            rows.append((f"{found.numbers} {name}", str(vector[name])))
        rows.append(("an export takes", found.takes))
        say(str(artifact))
        for name, text in rows:
            say(f"  {name}: {text}")
        for remark in remarks:
            say(f"- {remark}")


@app.command(name="verify")
def verify_command(
    directory: Annotated[Path, typer.Argument(help="An export.")],
    load: Annotated[bool, typer.Option("--load", help="Load it with transformers.")] = False,
    base: Annotated[
        str | None,
        typer.Option(help="The base that it was made from: a directory, or a hub's name."),
    ] = None,
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
    float64: Annotated[
        bool, typer.Option("--float64", help="With --prompts: compute in float64, for tiny deltas.")
    ] = False,
    download: Download = None,
    serves: Annotated[
        str | None,
        typer.Option(
            help="Will it serve what was trained? vllm, sglang, llama.cpp or transformers."
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Check an export against its manifest; exit 1 if something is wrong."""
    with command(json_, "The export is as it was.", _FAILED):
        from exporter.verification import verify

        report = verify(
            directory,
            load=load,
            base=None if base is None else find_model(base, download),
            artifact=artifact,
            prompts=prompts,
            require_retention=require_retention,
            record=record,
            float64=float64,
            serves=serves,
        )
        print_json(_verify_fields(report)) if json_ else _show_verification(report)
        if not report.ok:
            raise typer.Exit(1)


@app.command(name="split")
def split_command(
    directory: Annotated[Path, typer.Argument(help="An nf4-embedded export.")],
    out: Annotated[Path, typer.Option(help="A new directory, for base and adapter.")],
    json_: Json = False,
) -> None:
    """Part an nf4-embedded export into OUT/base and OUT/adapter, for vLLM, SGLang and others."""
    with command(json_, "Nothing was written."):
        from exporter.splitting import split

        parts = split(directory, out)
        if json_:
            print_json({"ok": True, "out": str(out), "files": parts})
            return
        for part, files in parts.items():
            say(f"{out / part}: {', '.join(files)}")


def _export_with_bar(request: "ExportRequest") -> "ExportReport":
    from exporter.make_export import export

    with _unlogged(), progress_bars() as bars:

        def show(step: "Progress") -> None:
            part = "export" if step.stage == "fold" else "choose"
            bars(part, step.done, step.total, f"{step.stage} {step.module}")

        return export(request, show)


def _show_report(report: "ExportReport") -> None:
    from exporter.fidelity import FidelityReport

    fidelity = report.fidelity
    header = ("modules", "capture", "residual", "noise", "bound", "codes moved", "scales")
    groups: dict[str, list[ModuleFidelity]] = {}
    for module in fidelity.modules:
        groups.setdefault(module.module.rsplit(".", 1)[-1], []).append(module)
    rows = [
        [f"{len(members)} {leaf}", *_cells(FidelityReport(tuple(members), 0))]
        for leaf, members in groups.items()
    ]
    rows.append([f"all {len(fidelity.modules)}", *_cells(fidelity)])
    show_table(None, header, rows)
    outcome = "" if report.effect_measured else f"; by the weights: delta {report.verdict}"
    say(
        f"{report.out}: {report.format}, {fidelity.bytes / 1e6:.1f} MB; "
        f"{report.resolved or 'factors as stored in the adapter'}; factors took "
        f"{report.seconds.get('factors', 0):.1f} s{outcome}"
    )
    if needs := format_named(report.format).needs:
        say(needs)
    if report.choice is not None:
        say(f"chosen: {report.choice.sentence}")
    if report.retention is not None:
        _show_retention(report.retention)
    for warning in report.warnings:
        warn(warning)


def _merge_fields(report: "ExportReport") -> dict[str, Any]:
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


def _verify_fields(report: "VerifyReport") -> dict[str, Any]:
    checks = [{"name": c.name, "ok": c.ok, "problems": list(c.problems)} for c in report.checks]
    return {
        "ok": report.ok,
        "directory": str(report.directory),
        "format": report.format,
        "checks": checks,
        "recorded": report.measured,
        "logits": report.logits and vars(report.logits),
        "retention": report.retention and report.retention.as_dict(),
        "serves": report.engine and _serving_fields(report.engine, report.format),
        "warnings": list(report.warnings),
    }


def _serving_fields(engine: "Engine", format: str) -> dict[str, Any]:
    answer = engine.answers[format]
    return {
        "engine": engine.name,
        "version": engine.version,
        "ran": engine.ran,
        "takes": answer.serves,
        "text": answer.text,
    }


def _cells(fidelity: "FidelityReport") -> list[str]:
    sums, total = fidelity.total, fidelity.as_dict()["total"]
    values = (sums.capture, sums.residual, sums.noise, sums.residual_bound)
    cells = ["-" if value is None else f"{value:.4g}" for value in values]
    counts = (total["codes_moved"], total["scales_changed"])
    return cells + ["-" if count is None else str(count) for count in counts]


def _show_verification(report: "VerifyReport") -> None:
    for check in report.checks:
        say(f"{'ok  ' if check.ok else 'FAIL'} {check.name}")
        for problem in check.problems:
            complain(f"     {problem}")
    if report.logits is not None:
        found = report.logits
        residual = "-" if found.residual is None else f"{found.residual:.4g}"
        screen.print(
            f"logits against the restored model: largest difference {found.largest:.4g}, residual "
            f"{residual} (1: the delta is gone); the adapter changes logits by {found.change:.4g}"
        )
    if report.retention is not None:
        _show_retention(report.retention)
    if report.engine is not None:
        answer = report.engine.answers[report.format]
        say(f"{report.engine.about}: {report.format} {answer.text}")
    say(f"recorded: {report.measured}")
    for warning in report.warnings:
        warn(f"recorded: {warning}")


def _show_retention(found: "Retention") -> None:
    rows = [
        (name, f"{d.mean:.3g}", f"{d.p99:.3g}", f"{d.largest:.3g}", f"{d.top1_agreement:.2%}")
        for name, d in found.rows
    ]
    header = ("against the restored model", "mean KL", "99 %", "largest", "same first choice")
    show_table(None, header, rows)
    screen.print(found.sentence)


@contextmanager
def _unlogged() -> Iterator[None]:
    """The report's warnings are shown with it; without this they would also be logged."""
    loggers = [logging.getLogger(name) for name in ("exporter", "tinylora.restoration")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
