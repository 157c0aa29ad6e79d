"""A run's numbers as tables: for people (text cells) and for programs (data frames)."""

import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from evaluator.report.summary import ArmSummary, RunSummary
from evaluator.report.text_table import TextTable
from evaluator.statistics.compare import Equivalence, PairedComparison
from evaluator.store.records import VERDICTS
from evaluator.store.run_directory import ArmFacts
from tinylora.files.whole_file import replace_file

_FORMULA = re.compile(r"[=+\-@＝＋－＠\t\r\n]")


def arms_frame(summary: RunSummary) -> pd.DataFrame:
    """One row an arm; rates and differences as proportions, sizes in bytes."""
    return pd.DataFrame([_arm_row(arm, summary) for arm in summary.arms]).convert_dtypes()


def problems_frame(summary: RunSummary) -> pd.DataFrame:
    """One row a problem: id, family, language, and the share of passed samples by arm."""
    columns: dict[str, list[object]] = {
        "problem": [p.id for p in summary.problems],
        "family": [p.family for p in summary.problems],
        "language": [p.language for p in summary.problems],
    }
    for arm in summary.arms:
        columns[_passed(arm)] = list(arm.passes.mean(axis=1))
    return pd.DataFrame(columns)


def verdicts_frame(summary: RunSummary) -> pd.DataFrame:
    """Completions by arm and verdict, all problems counted."""
    return pd.DataFrame([{"arm": arm.facts.name, **arm.verdicts} for arm in summary.arms])


def groups_frame(summary: RunSummary) -> pd.DataFrame:
    """Pass rates by language and by family: one row a group, one column ``passed_ARM`` an arm."""
    problems = problems_frame(summary)
    passed = [_passed(arm) for arm in summary.arms]
    parts = []
    for by in ("language", "family"):
        groups = problems.dropna(subset=[by]).groupby(by, sort=True)
        means = groups[passed].mean()
        means.insert(0, "problems", groups.size())
        means.index.name = "group"
        part = means.reset_index()
        part.insert(0, "by", by)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def arms_table(summary: RunSummary) -> TextTable:
    """The main table."""
    title = f"{summary.facts.config['name']}: {len(summary.problems)} problems"
    if summary.facts.samples > 1:
        title += f" × {summary.facts.samples} samples"
    return TextTable.of(title, [_arm_cells(arm, summary) for arm in summary.arms])


def verdicts_table(summary: RunSummary) -> TextTable:
    """Verdict counts; verdicts that no arm got are left out."""
    shown = [name for name in VERDICTS if any(arm.verdicts[name] for arm in summary.arms)]
    rows = tuple(
        (arm.facts.name, *(str(arm.verdicts[name]) for name in shown)) for arm in summary.arms
    )
    return TextTable("Verdicts", ("arm", *shown), rows)


def languages_table(summary: RunSummary) -> TextTable | None:
    """Pass rates by language, where the suite has more than one."""
    frame = groups_frame(summary)
    frame = frame[frame["by"] == "language"]
    if len(frame) < 2:
        return None
    names = [arm.facts.name for arm in summary.arms]
    passed = [_passed(arm) for arm in summary.arms]
    rows = tuple(
        (str(row["group"]), str(row["problems"]), *(percent(float(row[name])) for name in passed))
        for _, row in frame.iterrows()
    )
    return TextTable("Pass rate by language", ("language", "problems", *names), rows)


def sensitivity_table(summary: RunSummary) -> TextTable | None:
    """For each comparison its flips and the smallest margin and difference it could show.

    With an A/A repeat, flips are also given as a multiple of those of a repeat of the same kind.
    """
    if not summary.comparisons:
        return None
    yardsticks = [summary.yardstick(pair) for pair in summary.comparisons]
    rows = [
        {
            "arm": pair.arm,
            "flips": percent(pair.flip_rate),
            **({"flips / A/A": noise and _ratio(pair, noise) or ""} if any(yardsticks) else {}),
            "δ": margin_text(pair.margin),
            "δ without flips": plain_points(pair.shown_margin),
            "δ at 80 %": plain_points(pair.provable_margin),
            "difference at 80 %": plain_points(pair.detectable_difference),
        }
        for pair, noise in zip(summary.comparisons, yardsticks, strict=True)
    ]
    return TextTable.of("What the run could have seen, in points", rows)


def write_frame(frame: pd.DataFrame, stem: Path) -> None:
    """Write a data frame as ``stem.csv`` and ``stem.parquet``, each at once.

    A text that a spreadsheet would compute has an apostrophe before it in the former.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    shown = frame.rename(columns=_no_formula)
    for name in shown.select_dtypes(["object", "string"]):
        shown[name] = shown[name].map(_no_formula)
    replace_file(stem.with_suffix(".csv"), shown.to_csv(index=False).encode())
    replace_file(stem.with_suffix(".parquet"), frame.to_parquet(index=False))


def _no_formula(cell: Any) -> Any:
    """A cell that begins as formulas do is made a text, as spreadsheets mark it."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def percent(rate: float) -> str:
    """A proportion as a percentage with one decimal."""
    return f"{100 * rate:.1f} %"


def fine_percent(share: float) -> str:
    """A proportion with two decimals, as what matters lies near 100 %."""
    return f"{100 * share:.2f} %"


def points(difference: float) -> str:
    """A signed difference of proportions, in percentage points.

    >>> points(-0.004), points(-0.0)
    ('−0.4', '0.0')
    """
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def plain_points(proportion: float | None) -> str:
    """A proportion in percentage points, without a sign."""
    return "none" if proportion is None else f"{100 * proportion:.1f}"


def margin_text(margin: float) -> str:
    """A margin δ in percentage points, with all of its decimals.

    >>> margin_text(0.02), margin_text(0.0025)
    ('2.0', '0.25')
    """
    text = f"{100 * margin:.6g}"
    return text if "." in text else f"{text}.0"


def p_text(p_value: float) -> str:
    """A p-value, as small as it is."""
    return f"{p_value:.1e}" if p_value < 0.001 else f"{p_value:.3f}"


def shown_verdict(pair: PairedComparison, summary: RunSummary) -> str:
    """The verdict with what must never be read without it; control and repeats have none."""
    if pair.arm == summary.control:
        return "control"
    if pair.arm in summary.repeats:
        return f"A/A: {pair.verdict}"
    if pair.verdict is not Equivalence.MATCH:
        return str(pair.verdict)
    if pair.informative is False:
        return "match (uninformative)"
    return "match (alone)" if pair.holds_jointly is False else "match"


def _passed(arm: ArmSummary) -> str:
    """Name of an arm's column among others: an arm may be called ``problems``."""
    return f"passed_{arm.facts.name}"


def _arm_row(arm: ArmSummary, summary: RunSummary) -> dict[str, object]:
    facts, pair = arm.facts, summary.comparison(arm.facts.name)

    def compared(*names: str) -> dict[str, object]:
        return {name: getattr(pair, name, None) for name in names}

    return {
        "arm": facts.name,
        "kind": facts.kind,
        "problems": arm.passes.shape[0],
        "samples": arm.passes.shape[1],
        "families": len(summary.families.sizes),
        "pass_rate": arm.pass_rate,
        "pass_rate_low95": arm.interval.low,
        "pass_rate_high95": arm.interval.high,
        **{f"pass_at_{k}": value for k, value in arm.pass_at.items()},
        **{f"pass_at_{k}_low95": i.low for k, i in arm.pass_at_interval.items() if k > 1},
        **{f"pass_at_{k}_high95": i.high for k, i in arm.pass_at_interval.items() if k > 1},
        "compile_rate": arm.compile_rate,
        "no_code_rate": arm.no_code_rate,
        "choice_rate": arm.choice_rate,
        "mean_score": arm.mean_score,
        **compared("reference", "gained", "lost", "flip_rate", "difference"),
        "difference_low95": pair and pair.interval95.low,
        "difference_high95": pair and pair.interval95.high,
        "difference_low90": pair and pair.interval90.low,
        "difference_high90": pair and pair.interval90.high,
        **compared("p_value", "margin", "shown_margin", "provable_margin", "detectable_difference"),
        "verdict": str(pair.verdict) if pair else None,
        **compared("match_p", "joint_match_p", "informative"),
        "weight_bytes": facts.weight_bytes,
        "capture": facts.capture,
        "residual": facts.residual,
        "cosine": delta_cosine(facts),
    }


def _arm_cells(arm: ArmSummary, summary: RunSummary) -> dict[str, str]:
    facts, pair = arm.facts, summary.comparison(arm.facts.name)
    flips = difference = p_value = ""
    verdict = "reference" if facts.name == summary.reference else ""
    if pair is not None:
        low, high = points(pair.interval95.low), points(pair.interval95.high)
        flips = f"+{pair.gained} / −{pair.lost}"
        difference = f"{points(pair.difference)} [{low}, {high}]"
        p_value, verdict = p_text(pair.p_value), shown_verdict(pair, summary)
    return {
        "arm": facts.name,
        "kind": facts.kind,
        "pass@1": percent(arm.pass_rate),
        "95 % interval": f"{100 * arm.interval.low:.1f} – {100 * arm.interval.high:.1f}",
        **{f"pass@{k}": percent(value) for k, value in arm.pass_at.items() if k > 1},
        "compiles": percent(arm.compile_rate),
        "no code": percent(arm.no_code_rate),
        "score": f"{arm.mean_score:.1f}",
        "gained / lost": flips,
        "difference [95 %]": difference,
        "p": p_value,
        "verdict": verdict,
        "size": size_text(facts.weight_bytes) if facts.weight_bytes else "",  # else not here
        "capture": "" if facts.capture is None else f"{facts.capture:.3f}",
        "residual": "" if facts.residual is None else f"{facts.residual:.3f}",
        "cosine": "" if (found := delta_cosine(facts)) is None else f"{found:.3f}",
    }


def delta_cosine(facts: ArmFacts) -> float | None:
    """Cosine of the angle between the exported and the trained ΔW, of all adapted weights.

    Of an exported change E with capture c = ⟨E,Δ⟩/‖Δ‖² and residual r = ‖E − Δ‖/‖Δ‖ it is
    c ‖Δ‖/‖E‖ = c/√(r² + 2c − 1); None where these are not known, or nothing changed.
    """
    if facts.capture is None or facts.residual is None:
        return None
    square = facts.residual**2 + 2 * facts.capture - 1  # ‖E‖²/‖Δ‖²
    return min(1.0, facts.capture / math.sqrt(square)) if square > 1e-9 else None


def size_text(size: int) -> str:
    """Bytes in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size} B"


def _ratio(pair: PairedComparison, floor: PairedComparison) -> str:
    if floor.flip_rate > 0:
        return f"{pair.flip_rate / floor.flip_rate:.2f}"
    return "0 / 0" if pair.flip_rate == 0 else "∞"
