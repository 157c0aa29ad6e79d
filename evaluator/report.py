"""The written result of a run: tables, and sentences that say what they mean.

Reads records alone; ``write_results`` can be run again at any time without a model.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluator.compare import Equivalence, PairedComparison
from evaluator.records import GenerationRecord, VerdictRecord, read, replace_file
from evaluator.run_directory import RunDirectory
from evaluator.summary import RunSummary, summarize
from evaluator.tables import (
    TextTable,
    arms_frame,
    arms_table,
    groups_frame,
    languages_table,
    p_text,
    points,
    problems_frame,
    verdicts_frame,
    verdicts_table,
    write_frame,
)
from evaluator.token_records import TokenRecord
from evaluator.token_summary import summarize_tokens
from evaluator.token_tables import token_frame, token_sentences, token_table


@dataclass(frozen=True)
class Results:
    """What a run found.

    Attributes:
        summary: The numbers.
        tables: For people.
        sentences: What the tables mean.
    """

    summary: RunSummary
    tables: tuple[TextTable, ...]
    sentences: tuple[str, ...]


def write_results(directory: RunDirectory) -> Results:
    """Compute the statistics of a finished run and write its tables.

    Raises:
        RecordsError: The run is not finished, or its records are damaged.
    """
    facts = directory.read_facts()
    token_level = summarize_tokens(
        facts,
        read(directory.token_level, TokenRecord.from_row),
        read(directory.generations, GenerationRecord.from_row),
    )
    summary = summarize(facts, read(directory.verdicts, VerdictRecord.from_row), token_level)
    tables = {
        "arms": arms_table(summary),
        "token_level": token_table(summary),
        "verdicts": verdicts_table(summary),
        "languages": languages_table(summary),
    }
    shown = {name: table for name, table in tables.items() if table is not None}
    results = Results(summary, tuple(shown.values()), describe(summary))
    _write_frames(directory, summary)
    _write_texts(directory, results, tuple(shown))
    return results


def describe(summary: RunSummary) -> tuple[str, ...]:
    """What the comparison says, in plain words, one sentence a finding."""
    sentences = []
    if summary.unjudged:
        sentences.append(
            f"The judge itself failed on {len(summary.unjudged)} problems (UKE), which are left "
            f"out of every number: {', '.join(summary.unjudged[:5])}."
        )
    if summary.reference is None:
        return (*sentences, "There is no restored arm, so no arm was compared with it.")
    control = summary.comparison(summary.control) if summary.control else None
    sentences.append(_control_sentence(control))
    for pair in summary.comparisons:
        if pair.arm != summary.control:
            sentences.append(_pair_sentence(pair))
    sentences += token_sentences(summary)
    size = summary.comparisons[0] if summary.comparisons else None
    if size is not None:
        sentences.append(
            f"δ = {_plain(size.margin)} points was fixed before the run; {size.problems} problems "
            f"could have shown a δ of {_plain(size.shown_margin)} points at best."
        )
    return tuple(sentences)


def _control_sentence(control: PairedComparison | None) -> str:
    if control is None:
        return (
            "There is no base arm: whether the adapter has an effect that could be lost is unknown."
        )
    # The comparison is control − reference; the adapter's effect is its negative.
    low, high = -control.interval95.high, -control.interval95.low
    effect = (
        f"{points(-control.difference)} points (95 % interval {points(low)} to {points(high)}, "
        f"p = {p_text(control.p_value)})"
    )
    if control.verdict is Equivalence.DIFFER:
        return (
            f"The adapter changes the pass rate by {effect}, so a match with "
            f"{control.reference} means that its effect was kept."
        )
    return (
        f"No effect of the adapter on the pass rate was detected: {effect}. A match with "
        f"{control.reference} says nothing here: the base without the adapter is just as close."
    )


def _pair_sentence(pair: PairedComparison) -> str:
    numbers = (
        f"difference {points(pair.difference)} points, 90 % interval "
        f"{points(pair.interval90.low)} to {points(pair.interval90.high)}, "
        f"{pair.gained} gained and {pair.lost} lost"
    )
    margin = _plain(pair.margin)
    if pair.verdict is Equivalence.DIFFER:
        return f"{pair.arm} differs from {pair.reference}: {numbers}."
    if pair.verdict is Equivalence.INCONCLUSIVE:
        return (
            f"{pair.arm} against {pair.reference} is inconclusive at ±{margin} points: {numbers}. "
            "More problems or samples would be needed."
        )
    meaning = {
        True: "",
        False: " This match is uninformative: no adapter effect was detected.",
        None: " Without a base arm it cannot be told whether this match means anything.",
    }[pair.informative]
    return f"{pair.arm} matches {pair.reference} within ±{margin} points: {numbers}.{meaning}"


def _plain(proportion: float) -> str:
    return f"{100 * proportion:.1f}"


def _write_frames(directory: RunDirectory, summary: RunSummary) -> None:
    problems = problems_frame(summary)
    replace_file(directory.path / "problems.parquet", problems.to_parquet(index=False))
    for name, frame in (
        ("arms", arms_frame(summary)),
        ("verdicts", verdicts_frame(summary)),
        ("groups", groups_frame(summary)),
    ):
        write_frame(frame, directory.tables / name)
    if (tokens := token_frame(summary)) is not None:
        write_frame(tokens, directory.tables / "token_level")
    comparisons = {
        "comparisons": [asdict(pair) for pair in summary.comparisons],
        "token_level": None if summary.token_level is None else asdict(summary.token_level),
    }
    text = json.dumps(comparisons, indent=2, ensure_ascii=False)
    replace_file(directory.path / "comparison.json", text.encode() + b"\n")


def _write_texts(directory: RunDirectory, results: Results, names: Sequence[str]) -> None:
    made_by = _made_by(directory)
    for name, table in zip(names, results.tables, strict=True):
        replace_file(directory.tables / f"{name}.md", f"{table.markdown()}\n{made_by}".encode())
    findings = "\n".join(f"- {sentence}" for sentence in results.sentences)
    tables = "\n".join(table.markdown() for table in results.tables)
    name = results.summary.facts.config["name"]
    text = f"# {name}\n\n{tables}\n## What this means\n\n{findings}\n\n{made_by}"
    replace_file(directory.path / "report.md", text.encode())


def _made_by(directory: RunDirectory) -> str:
    """The command and versions behind a table, as Markdown."""
    facts = directory.read_facts()
    lines = [f"Suite {facts.suite}, sha256 `{facts.suite_digest[:16]}…`."]
    for session in directory.sessions()[-1:]:
        versions: dict[str, Any] = session["versions"]
        shown = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines.append(f"Made by `{session['command']}` with {shown}.")
        machine = session["machine"]
        lines.append(
            f"Machine: {machine['cpu']}, {machine['cpus']} cores, {machine['device']}; "
            f"sandbox: {session['sandbox'].get('rung')}."
        )
    return "  \n".join(lines) + "\n"
