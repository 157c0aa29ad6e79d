"""The written result of a run, from its records alone: tables, page, and what they mean."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from evaluator.report.latex import latex_table
from evaluator.report.provenance import made_by_lines
from evaluator.report.sentences import arm_lines, describe
from evaluator.report.summary import RunSummary, summarize
from evaluator.report.tables import (
    arms_frame,
    arms_table,
    groups_frame,
    languages_table,
    problems_frame,
    sensitivity_table,
    verdicts_frame,
    verdicts_table,
    write_frame,
)
from evaluator.report.text_table import TextTable
from evaluator.report.token_tables import token_frame, token_table
from evaluator.store.plan import kept_plan
from evaluator.store.records import GenerationRecord, Key, TokenRecord, VerdictRecord, read
from evaluator.store.run_directory import RunDirectory
from evaluator.tokens.summary import summarize_tokens
from tinylora.files.whole_file import replace_file


@dataclass(frozen=True)
class Results:
    """The numbers of a run, its tables for people, and what they mean."""

    summary: RunSummary
    tables: tuple[TextTable, ...]
    sentences: tuple[str, ...]


def write_results(directory: RunDirectory) -> Results:
    """Compute the statistics of a finished run and write its tables, page and plots."""
    from evaluator.report.html.page import write_page  # matplotlib takes a second to import

    verdicts, generations, summary = _read(directory)
    tables = {
        "arms": arms_table(summary),
        "token_level": token_table(summary),
        "sensitivity": sensitivity_table(summary),
        "verdicts": verdicts_table(summary),
        "languages": languages_table(summary),
    }
    shown = {name: table for name, table in tables.items() if table is not None}
    results = Results(summary, tuple(shown.values()), describe(summary))
    _write_frames(directory, summary)
    made_by = made_by_lines(directory, generations.values())
    write_page(
        directory, summary, verdicts, generations, results.tables, results.sentences, made_by
    )
    _write_texts(directory, results, shown, made_by)  # last: report.md says that a run is done
    return results


def read_summary(directory: RunDirectory) -> RunSummary:
    """Compute the statistics of a finished run, as :func:`write_results`; nothing is written."""
    return _read(directory)[2]


def _read(
    directory: RunDirectory,
) -> tuple[Mapping[Key, VerdictRecord], Mapping[Key, GenerationRecord], RunSummary]:
    facts = directory.read_facts()
    verdicts = read(directory.verdicts, VerdictRecord.from_row)
    generations = read(directory.generations, GenerationRecord.from_row)
    tokens = read(directory.token_level, TokenRecord.from_row)
    level = summarize_tokens(facts, tokens, generations)
    plan = kept_plan(directory, facts, generations.values())
    return verdicts, generations, summarize(facts, verdicts, level, plan)


def _write_frames(directory: RunDirectory, summary: RunSummary) -> None:
    replace_file(directory.problems, problems_frame(summary).to_parquet(index=False))
    for name, frame in (
        ("arms", arms_frame(summary)),
        ("verdicts", verdicts_frame(summary)),
        ("groups", groups_frame(summary)),
        ("token_level", token_frame(summary)),
    ):
        if frame is not None:
            write_frame(frame, directory.tables / name)
    comparisons = {
        "comparisons": [asdict(pair) for pair in summary.comparisons],
        "token_level": None if summary.token_level is None else asdict(summary.token_level),
    }
    text = json.dumps(comparisons, indent=2, ensure_ascii=False)
    replace_file(directory.comparison, text.encode() + b"\n")


def _write_texts(
    directory: RunDirectory,
    results: Results,
    tables: Mapping[str, TextTable],
    made: Sequence[str],
) -> None:
    made_by = "  \n".join(made) + "\n"
    for name, table in tables.items():
        stem = directory.tables / name
        replace_file(stem.with_suffix(".md"), f"{table.markdown()}\n{made_by}".encode())
        replace_file(stem.with_suffix(".tex"), latex_table(table, name, made_by).encode())
    findings = "\n".join(f"- {sentence}" for sentence in results.sentences)
    shown = "\n".join(table.markdown() for table in results.tables)
    name = results.summary.facts.config["name"]
    arms = "".join(f"- {line}\n" for line in arm_lines(results.summary))
    text = f"# {name}\n\n{arms}\n{shown}\n## What this means\n\n{findings}\n\n{made_by}"
    replace_file(directory.report, text.encode())
