"""What results look like, on the screen and as JSON (docs/json.md)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylora.terminal import complain, print_json, say, screen, show_table

if TYPE_CHECKING:
    from evaluator.bench.bench import BenchResults
    from evaluator.effect import Effect
    from evaluator.judging.judge_file import JudgeSummary
    from evaluator.report.results import Results
    from evaluator.report.text_table import TextTable

_LISTED = 10  # rows of completions that are named when they are not judged


def show_effect(found: "Effect", as_json: bool) -> None:
    """How much the adapter changes, and what a run could see of it."""
    if as_json:
        print_json(
            {"ok": True, **vars(found), "informative": found.informative}
            | {"sentences": list(found.sentences)}
        )
        return
    for sentence in found.sentences:
        screen.print(f"• {sentence}")


def show_results(results: "Results", out: Path, as_json: bool) -> None:
    """The tables of a run, what follows from them, and where its files lie."""
    from evaluator.store.run_directory import RunDirectory

    directory = RunDirectory(out)
    if as_json:
        written = json.loads(directory.comparison.read_bytes())
        tables = [_fields(table) for table in results.tables]
        fields = {"ok": True, "out": str(out), "html": str(directory.page), **written}
        print_json(fields | {"tables": tables, "sentences": list(results.sentences)})
        return
    show_findings(results.tables, results.sentences, False)
    if sessions := directory.sessions():
        say(f"\nSandbox: {sessions[-1]['sandbox'].get('rung')}")
    say(f"Tables and records: {out}")
    say(f"The page to read: {directory.page}")


def show_findings(tables: "Sequence[TextTable]", sentences: Sequence[str], as_json: bool) -> None:
    """Tables, and what follows from them."""
    if as_json:
        shown = [_fields(table) for table in tables]
        print_json({"ok": True, "tables": shown, "sentences": list(sentences)})
        return
    for table in tables:
        show_table(table.title, table.header, table.rows)
    for sentence in sentences:
        screen.print(f"• {sentence}")


def show_bench(results: "BenchResults", out: Path, as_json: bool) -> None:
    """The table of a bench, and what of it could not be made."""
    from evaluator.bench.table import BENCH_KEY

    table, failures = results.table, dict(results.failures)
    if as_json:
        fields = {"ok": not failures, "out": str(out), "tables": [_fields(table)]}
        print_json(fields | {"failures": failures})
    else:
        show_table(table.title, table.header, table.rows, len(BENCH_KEY))
        say(f"Tables, exports and runs: {out}")
    for part, message in failures.items():
        complain(f"failed: {part}: {message}")


def show_judgement(summary: "JudgeSummary", completions: Path, as_json: bool) -> None:
    """Verdicts on a file of completions, and the rows that were not judged."""
    if as_json:
        not_judged = [{"where": row.where, "reason": row.reason} for row in summary.not_judged]
        print_json({"ok": not not_judged, **vars(summary), "not_judged": not_judged})
    else:
        passed = summary.counts.get("AC", 0)
        counts = ", ".join(f"{verdict} {count}" for verdict, count in summary.counts.items())
        share = summary.chosen / summary.total
        say(f"{passed} of {summary.total} pass: {counts}")
        say(f"Without code: {summary.without_code}")
        say(f"One of several programs chosen: {summary.chosen} ({share:.1%})")
        say(f"Verdicts: {summary.verdicts_path}")
        say(f"Sandbox: {summary.sandbox}")
    for row in summary.not_judged[:_LISTED]:
        complain(f"not judged: {completions}, {row.where}: {row.reason}")
    if summary.not_judged:
        listed = summary.verdicts_path.with_name("not_judged.jsonl")
        complain(f"not judged, in all: {len(summary.not_judged)} ({listed})")


def _fields(table: "TextTable") -> dict[str, Any]:
    """A table as JSON has it: a row is an object of texts."""
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    return {"title": table.title, "rows": rows}
