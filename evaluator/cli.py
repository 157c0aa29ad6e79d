"""The command ``tinylora-eval``.

Exit codes: 0 done, 1 a part failed (of a bench, or rows of a file of completions), 2 an error
that the message explains. Each command imports what it uses: models and statistics take seconds.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.logging import RichHandler

from evaluator.config.judge_settings import JudgeSettings
from evaluator.console import (
    complain,
    err,
    errors_explained,
    fitting,
    progress_bars,
    rich_table,
    screen,
)
from evaluator.judging.judge_file import judge_completions

if TYPE_CHECKING:
    from evaluator.config.run_config import RunConfig
    from evaluator.report.results import Results

app = typer.Typer(
    help="Generate, judge and compare: does an exported checkpoint still solve its problems?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_LISTED = 10  # rows of completions that are named when they are not judged

Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe",
        help="Judge without isolation where no sandbox works. Programs then run with your rights.",
    ),
]


RequireInformative = Annotated[
    bool,
    typer.Option(
        "--require-informative",
        help="Stop before a run whose pass rates could not show a lost adapter.",
    ),
]


@app.callback()
def _main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=err, show_path=False)],
    )


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The run's YAML file.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the records of an earlier run first.")
    ] = False,
    unsafe: Unsafe = False,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Let no arm take over the reference's text.")
    ] = False,
    require_informative: RequireInformative = False,
) -> None:
    """Make a run: completions, verdicts, statistics, tables. A killed run goes on."""
    from evaluator.config.run_config import load_config

    with errors_explained():
        settings = load_config(config)  # before what takes seconds to import
        if from_scratch:
            settings = settings.model_copy(update={"drafts": False})
        from evaluator.run import run as make_run
        from evaluator.store.environment import command_line

        _quiet_transformers()
        with progress_bars() as progress:
            results = make_run(
                settings,
                command=command_line(),
                overwrite=overwrite,
                unsafe=unsafe,
                progress=progress,
                require_informative=require_informative,
            )
        if results is not None:  # a further process of a launch has none
            _show(results, settings.out)


@app.command()
def effect(
    config: Annotated[Path, typer.Argument(help="The run's YAML file.")],
    require_informative: RequireInformative = False,
) -> None:
    """Say, in minutes and before a run, whether it could see that the adapter was lost."""
    from evaluator.config.run_config import load_config

    with errors_explained():
        settings = load_config(config)
        _quiet_transformers()
        informative = _show_effect(settings)
        if require_informative and not informative:
            raise typer.Exit(1)


@app.command()
def table(
    run_dir: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
) -> None:
    """Compute statistics and tables of a finished run again; needs no model."""
    from evaluator.report.results import write_results
    from evaluator.store.run_directory import RunDirectory

    with errors_explained():
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
    from evaluator.suites.import_suite import import_suite, report_lines
    from evaluator.suites.importers.drafts_to_problems import DefaultLimits

    with errors_explained():
        report = import_suite(
            source,
            out,
            form=form,
            name=name,
            limits=DefaultLimits(time_limit_ms, memory_limit_mib * 1024),
            statements=statements,
            overwrite=overwrite,
        )
        for line in report_lines(report):
            screen.print(line, soft_wrap=True)


@app.command()
def prompts(
    config: Annotated[Path, typer.Argument(help="The run's YAML file.")],
    openai: Annotated[
        bool, typer.Option("--openai", help="In the form of OpenAI's batches.")
    ] = False,
    model: Annotated[str, typer.Option(help="Name of the model in these.")] = "model",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File; else the screen.")] = None,
) -> None:
    """Write what is asked in a run, for engines elsewhere: one line of JSON a completion."""
    from evaluator.config.run_config import load_config

    with errors_explained():
        settings = load_config(config)
        from evaluator.errors import ConfigError
        from evaluator.prompts import prompt_lines
        from tinylora.files.whole_file import replace_file

        lines = list(prompt_lines(settings, model if openai else None))
        if out is None:
            typer.echo(b"".join(lines), nl=False)
        else:
            try:
                replace_file(out, b"".join(lines))
            except OSError as error:
                raise ConfigError(f"--out {out}: cannot be written: {error}") from error
            screen.print(f"{len(lines)} prompts: {out}", soft_wrap=True)


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
    looks: Annotated[int, typer.Option(help="How often the run is looked at, see the docs.")] = 1,
) -> None:
    """Say how many problems a run needs, before it is made."""
    from evaluator.plan import make_plan

    with errors_explained():
        made, sentences = make_plan(margin, flip_rate, power, samples, correlation, looks)
        screen.print(rich_table(made))
        for sentence in sentences:
            screen.print(f"• {sentence}")


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

    with errors_explained():
        settings = load_bench(config)  # before what takes seconds to import
        from evaluator.bench.bench import CANNOT, survey
        from evaluator.bench.bench import bench as make_bench
        from evaluator.bench.table import BENCH_KEY
        from evaluator.store.environment import command_line

        _quiet_transformers()
        if dry_run:
            found = survey(settings)
            screen.print(rich_table(found))
            if any(CANNOT in row for row in found.rows):
                raise typer.Exit(1)
            return
        with progress_bars() as bars:
            results = make_bench(
                settings, command=command_line(), unsafe=unsafe, progress=bars.one_at_a_time
            )
        for shown in fitting(results.table, key=BENCH_KEY):
            screen.print(rich_table(shown))
        screen.print(f"Tables, exports and runs: {settings.out}")
        for part, message in results.failures.items():
            complain(f"failed: {part}: {message}")
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
    with errors_explained():
        settings = JudgeSettings(
            standard=standard,
            workers=workers,
            strip_freopen=strip_freopen,
            testlib_path=testlib,
            checker_standard=checker_standard,
            checker_compile_cpu_ms=1000 * checker_compile_seconds,
            unsafe=unsafe,
        )
        with progress_bars() as bars:
            summary = judge_completions(suite, completions, out, settings, progress=bars)
        passed = summary.counts.get("AC", 0)
        counts = ", ".join(f"{verdict} {count}" for verdict, count in summary.counts.items())
        screen.print(f"{passed} of {summary.total} pass: {counts}")
        screen.print(f"Without code: {summary.without_code}")
        share = summary.chosen / summary.total
        screen.print(f"One of several programs chosen: {summary.chosen} ({share:.1%})")
        screen.print(f"Verdicts: {summary.verdicts_path}")
        for row in summary.not_judged[:_LISTED]:
            text = f"not judged: {completions}, {row.where}: {row.reason}"
            complain(text)
        if summary.not_judged:
            listed = summary.verdicts_path.with_name("not_judged.jsonl")
            text = f"not judged, in all: {len(summary.not_judged)} ({listed})"
            complain(text)
            raise typer.Exit(1)


def _show_effect(settings: "RunConfig") -> bool:
    """Print how much the adapter changes; whether a run could show that it was lost."""
    from evaluator.effect import measure_effect
    from evaluator.generation.prepare import prepare

    with progress_bars() as progress:
        found = measure_effect(prepare(settings), progress)
    for sentence in found.sentences:
        screen.print(f"• {sentence}")
    return found.informative


def _quiet_transformers() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # Its int8 layers say at every call that they round activations.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def _show(results: "Results", out: Path) -> None:
    arms, *others = results.tables
    for text_table in (*fitting(arms), *others):
        screen.print(rich_table(text_table))
    for sentence in results.sentences:
        screen.print(f"• {sentence}")
    screen.print(f"\nTables and records: {out}")
