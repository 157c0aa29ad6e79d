"""The written result of a run: tables, and sentences that say what they mean.

Reads records alone; ``write_results`` can be run again at any time without a model.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from evaluator.report.latex import latex_table
from evaluator.report.provenance import made_by_lines
from evaluator.report.sensitivity_table import sensitivity_table
from evaluator.report.summary import RunSummary, summarize
from evaluator.report.tables import (
    arms_frame,
    arms_table,
    groups_frame,
    languages_table,
    p_text,
    percent,
    points,
    problems_frame,
    verdicts_frame,
    verdicts_table,
    write_frame,
)
from evaluator.report.text_table import TextTable
from evaluator.report.token_tables import token_frame, token_sentences, token_table
from evaluator.statistics.compare import Equivalence, PairedComparison
from evaluator.store.records import GenerationRecord, Key, VerdictRecord, read, replace_file
from evaluator.store.run_directory import RunDirectory, RunFacts
from evaluator.tokens.records import TokenRecord
from evaluator.tokens.summary import summarize_tokens


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
    """Compute the statistics of a finished run and write its tables, page and plots.

    Raises:
        RecordsError: The run is not finished, or its records are damaged.
    """
    from evaluator.report.html.page import write_page  # matplotlib takes a second to import

    verdicts = read(directory.verdicts, VerdictRecord.from_row)
    generations = read(directory.generations, GenerationRecord.from_row)
    summary = _summarize(directory, verdicts, generations)
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
    write_page(directory, summary, verdicts, generations, results.tables, results.sentences)
    _write_texts(directory, results, shown)  # last: report.md says that a run is done
    return results


def read_summary(directory: RunDirectory) -> RunSummary:
    """Compute the statistics of a finished run; nothing is written.

    Raises:
        RecordsError: As :func:`write_results`.
    """
    return _summarize(
        directory,
        read(directory.verdicts, VerdictRecord.from_row),
        read(directory.generations, GenerationRecord.from_row),
    )


def _summarize(
    directory: RunDirectory,
    verdicts: Mapping[Key, VerdictRecord],
    generations: Mapping[Key, GenerationRecord],
) -> RunSummary:
    facts = directory.read_facts()
    tokens = read(directory.token_level, TokenRecord.from_row)
    return summarize(facts, verdicts, summarize_tokens(facts, tokens, generations))


def describe(summary: RunSummary) -> tuple[str, ...]:
    """What the comparison says, in plain words, one sentence a finding."""
    sentences = []
    if left_out := summary.facts.left_out:
        listed = "; ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:5])
        sentences.append(
            f"{len(left_out)} problems of the suite cannot be asked and are in no number: {listed}"
            f"{' …' if len(left_out) > 5 else '.'}"
        )
    if summary.unjudged:
        sentences.append(
            f"The judge itself failed on {len(summary.unjudged)} problems (UKE), which are left "
            f"out of every number: {', '.join(summary.unjudged[:5])}."
        )
    if chosen := {arm.facts.name: arm.choice_rate for arm in summary.arms if arm.choice_rate}:
        shares = ", ".join(f"{name} {percent(rate)}" for name, rate in chosen.items())
        sentences.append(
            "Some completions hold several programs, or parts of them, of which a rule chose one "
            f"(choice in verdicts.jsonl names it): {shares}."
        )
    if summary.reference is None:
        return (*sentences, "There is no restored arm, so no arm was compared with it.")
    control = summary.comparison(summary.control) if summary.control else None
    sentences.append(_control_sentence(control))
    for name in summary.repeats:
        sentences.append(_repeat_sentence(_compared(summary, name), summary.facts))
    for pair in summary.comparisons:
        if pair.arm != summary.control and pair.arm not in summary.repeats:
            sentences.append(_pair_sentence(pair, control) + _beside_noise(pair, summary))
    sentences += token_sentences(summary)
    if summary.comparisons:
        sentences.append(_sensitivity_sentence(summary))
    return tuple(sentences)


def _compared(summary: RunSummary, arm: str) -> PairedComparison:
    pair = summary.comparison(arm)
    assert pair is not None, f"{arm} is not the reference, so it was compared with it"
    return pair


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
            f"The adapter changes the pass rate by {effect}. "
            f"{_meaning_of_a_match(control, min(abs(low), abs(high)))}"
        )
    meaning = f"A match with {control.reference} says nothing here: "
    if low > 0 or high < 0:  # yet the verdict is a match
        return (
            f"The adapter's effect on the pass rate is surely smaller than the margin: {effect}. "
            f"{meaning}the base without the adapter matches it too."
        )
    return (
        f"No effect of the adapter on the pass rate was detected: {effect}. "
        f"{meaning}the base without the adapter is just as close."
    )


def _meaning_of_a_match(control: PairedComparison, least: float) -> str:
    """How much of an effect that is surely larger than ``least`` an arm that matches has kept."""
    shown = (
        f"A match with {control.reference} shows that less than δ = {_plain(control.margin)} "
        "points of that were lost"
    )
    if 2 * control.margin < least:
        return f"{shown}."
    return (
        f"{shown}. It does not show that most of the effect was kept, as that may be as small as "
        f"{_plain(least)} points."
    )


def _repeat_sentence(pair: PairedComparison, facts: RunFacts) -> str:
    if facts.same_noise(pair.arm, pair.reference):
        return (
            f"{pair.arm} is {pair.reference} once more with the same noise (A/A): it could flip by "
            f"rounding alone, and {percent(pair.flip_rate)} of the samples did. It is no noise "
            "floor, which takes a temperature above 0 and a seed of the arm's own."
        )
    floor = (
        f"Noise floor: {pair.arm} is {pair.reference} once more (A/A) and differs from it by "
        f"{points(pair.difference)} points (90 % interval {points(pair.interval90.low)} to "
        f"{points(pair.interval90.high)}), with {percent(pair.flip_rate)} of the samples flipped."
    )
    if pair.verdict is Equivalence.MATCH:
        return floor
    margin = _plain(pair.margin)
    if pair.verdict is Equivalence.INCONCLUSIVE:
        return (
            f"{floor} Not even this repeat is shown to be equal within ±{margin} points: the run "
            "is too small, or its draws are not paired."
        )
    return (
        f"{floor} A repeat that differs happens by chance in 5 % of runs; otherwise something "
        "besides the model has changed between the two."
    )


def _beside_noise(pair: PairedComparison, summary: RunSummary) -> str:
    """How an arm's distance from the reference compares with the reference's from itself."""
    if not summary.noise:
        return ""
    noise = summary.noise[0]
    within = noise.interval95.low <= pair.difference <= noise.interval95.high
    return (
        f" It flips {percent(pair.flip_rate)} of the samples where the A/A repeat flips "
        f"{percent(noise.flip_rate)}, and its difference lies {'within' if within else 'outside'} "
        f"the repeat's 95 % interval."
    )


def _pair_sentence(pair: PairedComparison, control: PairedComparison | None) -> str:
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
    if control is None:
        meaning = " Without a base arm it cannot be told whether this match means anything."
    elif pair.informative:
        meaning = ""
    elif control.verdict is Equivalence.MATCH:
        meaning = f" This match is uninformative: {control.arm} matches as well."
    else:
        meaning = " This match is uninformative: no adapter effect was detected."
    return f"{pair.arm} matches {pair.reference} within ±{margin} points: {numbers}.{meaning}"


def _sensitivity_sentence(summary: RunSummary) -> str:
    """What the run could have seen with the flips of its noise.

    That is an A/A repeat's with draws of its own; without one, those of the arm that flipped most
    and does not differ: the flips of an arm that differs are its difference.
    """
    pairs = summary.comparisons
    size = pairs[0]
    text = (
        f"δ = {_plain(size.margin)} points was fixed before the run; {size.problems} problems "
        f"could have shown a δ of {_plain(size.shown_margin)} points at best."
    )
    alike = [
        pair
        for pair in pairs
        if pair.verdict is not Equivalence.DIFFER and pair.arm not in summary.repeats
    ]
    if not (noise := summary.noise or alike):
        return text
    worst = max(noise, key=lambda pair: pair.flip_rate)
    if worst.provable_margin is None or worst.detectable_difference is None:
        return text
    return (
        f"{text} With as many flips as {worst.arm} has ({percent(worst.flip_rate)} of the "
        f"samples), 80 % of such runs would show equal arms to match at δ = "
        f"{_plain(worst.provable_margin)} points, and would see a true difference of "
        f"{_plain(worst.detectable_difference)} points."
    )


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


def _write_texts(
    directory: RunDirectory, results: Results, tables: Mapping[str, TextTable]
) -> None:
    made_by = made_by_lines(directory)
    for name, table in tables.items():
        stem = directory.tables / name
        replace_file(stem.with_suffix(".md"), f"{table.markdown()}\n{made_by}".encode())
        replace_file(stem.with_suffix(".tex"), latex_table(table, name, made_by).encode())
    findings = "\n".join(f"- {sentence}" for sentence in results.sentences)
    shown = "\n".join(table.markdown() for table in results.tables)
    name = results.summary.facts.config["name"]
    text = f"# {name}\n\n{shown}\n## What this means\n\n{findings}\n\n{made_by}"
    replace_file(directory.report, text.encode())
