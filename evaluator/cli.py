"""The command ``tinylora-eval``; each command imports what it uses, as torch takes seconds.

Exit codes: :mod:`tinylora.terminal`; 1 also where a part of a bench failed, or rows of a file of
completions were not judged.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluator.errors import ConfigError, UninformativeError
from evaluator.show import show_bench, show_effect, show_findings, show_judgement, show_results
from tinylora.models.find_model import Hub, find_model
from tinylora.terminal import (
    Download,
    Json,
    command,
    print_json,
    progress_bars,
    say,
    start,
)

app = typer.Typer(
    help="Generate, judge and compare: does an exported checkpoint still solve its problems?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
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
_KEPT = "All that is finished is kept in the output directory; the same command goes on from there."

app.callback()(start)


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
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE instead of the file's: --set decoding.samples=4."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take only the first problems of the suite.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, and say what would be made.")
    ] = False,
    download: Download = None,
    json_: Json = False,
) -> None:
    """Make a run: completions, verdicts, statistics, tables. A killed run goes on."""
    with command(json_, _KEPT, (UninformativeError,)):
        from evaluator.config.run_config import load_config

        more = [*([f"limit={limit}"] if limit else ()), *(["drafts=false"] if from_scratch else ())]
        settings = load_config(config, [*(changes or ()), *more])  # before slow imports
        _fetch((arm.model for arm in settings.arms), download)
        from evaluator.run import run as make_run
        from evaluator.run import survey as survey_run
        from evaluator.store.environment import command_line

        _quiet_transformers()
        if dry_run:
            show_findings([survey_run(settings)], (), json_)
            return
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
            show_results(results, settings.out, json_)


@app.command()
def effect(
    config: Annotated[Path, typer.Argument(help="The run's YAML file.")],
    require_informative: RequireInformative = False,
    download: Download = None,
    json_: Json = False,
) -> None:
    """Say, in minutes and before a run, whether it could see that the adapter was lost."""
    with command(json_, "Nothing was written."):
        from evaluator.config.run_config import load_config

        settings = load_config(config)
        _fetch((arm.model for arm in settings.arms), download)
        from evaluator.effect import measure_effect
        from evaluator.generation.prepare import prepare

        _quiet_transformers()
        with progress_bars() as progress:
            found = measure_effect(prepare(settings), progress)
        show_effect(found, json_)
        if require_informative and not found.informative:
            raise typer.Exit(1)


@app.command()
def table(
    run_dir: Annotated[Path, typer.Argument(help="Directory of a finished run.")],
    json_: Json = False,
) -> None:
    """Compute statistics and tables of a finished run again; needs no model."""
    with command(json_, "The run's records are as they were; the same command makes its tables."):
        from evaluator.report.results import write_results
        from evaluator.store.run_directory import RunDirectory

        show_results(write_results(RunDirectory(run_dir)), run_dir, json_)


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
    json_: Json = False,
) -> None:
    """Make a suite of problems from elsewhere, and list what cannot be judged."""
    with command(json_, "Nothing was written."):
        from evaluator.suites.import_suite import import_suite, report_lines
        from evaluator.suites.importers.drafts_to_problems import DefaultLimits

        report = import_suite(
            source,
            out,
            form=form,
            name=name,
            limits=DefaultLimits(time_limit_ms, memory_limit_mib * 1024),
            statements=statements,
            overwrite=overwrite,
        )
        if json_:
            print_json({"ok": True, **vars(report)})
            return
        for line in report_lines(report):
            say(line)


@app.command()
def prompts(
    config: Annotated[Path, typer.Argument(help="The run's YAML file.")],
    openai: Annotated[
        bool, typer.Option("--openai", help="In the form of OpenAI's batches.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Name of the model in these.", show_default="model")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File; else the screen.")] = None,
) -> None:
    """Write what is asked in a run, for engines elsewhere: one line of JSON a completion."""
    with command(False, "Nothing was written."):
        from evaluator.config.run_config import load_config

        if model is not None and not openai:
            raise ConfigError("--model names the model in batches; give --openai too, or leave it")
        settings = load_config(config)
        from evaluator.prompts import prompt_lines
        from tinylora.files.whole_file import replace_file

        lines = list(prompt_lines(settings, (model or "model") if openai else None))
        if out is None:
            typer.echo(b"".join(lines), nl=False)
        else:
            try:
                replace_file(out, b"".join(lines))
            except OSError as error:
                raise ConfigError(f"--out {out}: cannot be written: {error}") from error
            say(f"{len(lines)} prompts: {out}")


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
    json_: Json = False,
) -> None:
    """Say how many problems a run needs, before it is made."""
    with command(json_, "Nothing was written."):
        from evaluator.plan import make_plan

        made, sentences = make_plan(margin, flip_rate, power, samples, correlation, looks)
        show_findings([made], sentences, json_)


@app.command()
def schema(
    of: Annotated[str, typer.Argument(help="run or bench: whose YAML file is described.")],
) -> None:
    """Print the JSON schema of a configuration, for editors that complete and check it."""
    with command(False, "Nothing was written."):
        from evaluator.bench.config import BenchConfig
        from evaluator.config.config_file import Section
        from evaluator.config.run_config import RunConfig

        kinds: dict[str, type[Section]] = {"run": RunConfig, "bench": BenchConfig}
        if of not in kinds:
            raise ConfigError(f"expected run or bench, found {of!r}")
        print_json(kinds[of].model_json_schema())


@app.command()
def bench(
    config: Annotated[Path, typer.Argument(help="The bench's YAML file.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be made and what is there.")
    ] = False,
    unsafe: Unsafe = False,
    download: Download = None,
    json_: Json = False,
) -> None:
    """Export and run what is missing of artifacts × formats × suites × decodings: one table."""
    with command(json_, _KEPT):
        from evaluator.bench.config import load_bench

        settings = load_bench(config)  # before what takes seconds to import
        _fetch((base.model for base in settings.bases), download)
        from evaluator.bench.bench import CANNOT, survey
        from evaluator.bench.bench import bench as make_bench
        from evaluator.store.environment import command_line

        _quiet_transformers()
        if dry_run:
            found = survey(settings)
            show_findings([found], (), json_)
            if any(CANNOT in row for row in found.rows):
                raise typer.Exit(1)
            return
        with progress_bars() as bars:
            results = make_bench(
                settings, command=command_line(), unsafe=unsafe, progress=bars.one_at_a_time
            )
        show_bench(results, settings.out, json_)
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
    standard: Annotated[str | None, typer.Option(help="C++ standard; as in a run.")] = None,
    workers: Annotated[int | None, typer.Option(help="Programs at a time; all cores.")] = None,
    strip_freopen: Annotated[
        bool, typer.Option("--strip-freopen", help="Remove calls of freopen, as upstream does.")
    ] = False,
    testlib: Annotated[Path | None, typer.Option(help="testlib.h for special judges.")] = None,
    checker_standard: Annotated[
        str | None, typer.Option(help="C++ standard of special judges; as in a run.")
    ] = None,
    checker_compile_seconds: Annotated[
        int | None, typer.Option(min=1, help="CPU seconds to compile a special judge; as in a run.")
    ] = None,
    unsafe: Unsafe = False,
    json_: Json = False,
) -> None:
    """Judge a file of completions; needs no model. A killed call goes on."""
    with command(json_, _KEPT):
        from evaluator.config.judge_settings import JudgeSettings
        from evaluator.judging.judge_file import judge_completions

        given: dict[str, Any] = {
            "standard": standard,
            "workers": workers,
            "testlib_path": testlib,
            "checker_standard": checker_standard,
            "checker_compile_cpu_ms": checker_compile_seconds and 1000 * checker_compile_seconds,
        }
        settings = JudgeSettings(
            strip_freopen=strip_freopen,
            unsafe=unsafe,
            **{name: value for name, value in given.items() if value is not None},
        )
        with progress_bars() as bars:
            summary = judge_completions(suite, completions, out, settings, progress=bars)
        show_judgement(summary, completions, json_)
        if summary.not_judged:
            raise typer.Exit(1)


def _fetch(models: Iterable[str], hub: Hub | None) -> None:
    """Download what arms name and no cache on this machine has."""
    for name in models if hub else ():
        find_model(name, hub)


def _quiet_transformers() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # Its int8 layers say at every call that they round activations.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
