"""A run's numbers as tables: for people (text cells) and for programs (data frames)."""

import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from evaluator.report.summary import VERDICTS, ArmSummary, RunSummary
from evaluator.report.text_table import TextTable
from evaluator.statistics.compare import Equivalence, PairedComparison
from evaluator.store.records import repeats
from evaluator.tokens.summary import ArmTokens, TokenLevel
from tinylora.files.whole_file import replace_file
from tinylora.models.token_divergence import Kept, as_if_kept


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
            "δ": _size(pair.margin),
            "δ without flips": _size(pair.shown_margin),
            "δ at 80 %": _size(pair.provable_margin),
            "difference at 80 %": _size(pair.detectable_difference),
        }
        for pair, noise in zip(summary.comparisons, yardsticks, strict=True)
    ]
    return TextTable.of("What the run could have seen, in points", rows)


def write_frame(frame: pd.DataFrame, stem: Path) -> None:
    """Write a data frame as ``stem.csv`` and ``stem.parquet``, each at once."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    replace_file(stem.with_suffix(".csv"), frame.to_csv(index=False).encode())
    replace_file(stem.with_suffix(".parquet"), frame.to_parquet(index=False))


def percent(rate: float) -> str:
    """A proportion as a percentage with one decimal."""
    return f"{100 * rate:.1f} %"


def points(difference: float) -> str:
    """A signed difference of proportions, in percentage points.

    >>> points(-0.004), points(-0.0)
    ('−0.4', '0.0')
    """
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def p_text(p_value: float) -> str:
    """A p-value, as small as it is."""
    return f"{p_value:.1e}" if p_value < 0.001 else f"{p_value:.3f}"


def verdict_text(pair: PairedComparison) -> str:
    """The verdict with what must never be read without it."""
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
        **compared("match_p", "joint_match_p"),
        **compared("informative"),
        "weight_bytes": facts.weight_bytes,
        "capture": facts.capture,
        "residual": facts.residual,
    }


def _arm_cells(arm: ArmSummary, summary: RunSummary) -> dict[str, str]:
    facts, pair = arm.facts, summary.comparison(arm.facts.name)
    flips = difference = p_value = ""
    verdict = "reference" if facts.name == summary.reference else ""
    if pair is not None:
        low, high = points(pair.interval95.low), points(pair.interval95.high)
        flips = f"+{pair.gained} / −{pair.lost}"
        difference = f"{points(pair.difference)} [{low}, {high}]"
        p_value, verdict = p_text(pair.p_value), verdict_text(pair)
        if pair.arm == summary.control:  # no candidate
            verdict = "control"
        elif pair.arm in summary.repeats:  # shows the noise
            verdict = f"A/A: {pair.verdict}"
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
        "size": size_text(facts.weight_bytes),
        "capture": "" if facts.capture is None else f"{facts.capture:.3f}",
        "residual": "" if facts.residual is None else f"{facts.residual:.3f}",
    }


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


def _size(proportion: float | None) -> str:
    return "none" if proportion is None else f"{100 * proportion:.1f}"


def token_frame(summary: RunSummary) -> pd.DataFrame | None:
    """One row an arm, KL in nats; None without a restored arm."""
    level = summary.token_level
    if level is None:
        return None
    rows = [_token_row(name, level) for name in _token_names(summary, level)]
    return pd.DataFrame(rows).convert_dtypes()


def token_table(summary: RunSummary) -> TextTable | None:
    """The table for people; None where nothing was compared."""
    level = summary.token_level
    if level is None or not (level.arms or level.divergences):
        return None
    rows = [_token_cells(name, level) for name in _token_names(summary, level)]
    if not level.arms:
        return TextTable.of("", rows).select("Texts", ("arm", "equal texts", "first difference"))
    count = f"{level.arms[0].kl.tokens} predictions in {level.texts} texts"
    return TextTable.of(f"Token level: {count}, KL in nats", rows)


def _token_names(summary: RunSummary, level: TokenLevel) -> Iterator[str]:
    """The arms in order; the reference's place is taken by what it was compared with."""
    for arm in summary.arms:
        if arm.facts.name == level.reference and level.arms:
            yield from (found.arm for found in level.arms if found.arm in repeats(level.reference))
        else:
            yield arm.facts.name


def _token_row(name: str, level: TokenLevel) -> dict[str, object]:
    arm, text = level.arm(name), level.divergence(name)
    interval, kept = (arm.interval95, arm.kept) if arm else (None, None)
    return {
        "arm": name,
        "repeat": arm and arm.repeat,
        "tokens": arm and arm.kl.tokens,
        "texts": level.texts if arm else None,
        "kl_mean": arm and arm.kl.mean,
        "kl_p50": arm and arm.kl.p50,
        "kl_p99": arm and arm.kl.p99,
        "kl_max": arm and arm.kl.largest,
        "top1_agreement": arm and arm.top1_agreement,
        "retention": kept and kept.retention,
        "kept_at_least": kept and kept.at_least,
        "loss_seen": kept and kept.loss_seen,
        "as_if_kept": kept and as_if_kept(kept.retention),
        "retention_low95": interval and interval.low,
        "retention_high95": interval and interval.high,
        "floor": level.floor,
        "visible": level.visible if arm else None,
        "identical_texts": text and text.identical,
        "first_difference_characters": text and text.first_difference,
        "same_noise": text and text.same_noise,
    }


def _token_cells(name: str, level: TokenLevel) -> dict[str, str]:
    arm, text = level.arm(name), level.divergence(name)
    equal = first = ""
    if text is not None:
        equal = percent(text.identical) + ("" if text.same_noise else " (other noise)")
        if text.first_difference is not None:
            first = f"character {text.first_difference:.0f}"
    return {
        "arm": name,
        "mean KL": f"{arm.kl.mean:.3g}" if arm else "",
        "p50": f"{arm.kl.p50:.3g}" if arm else "",
        "p99": f"{arm.kl.p99:.3g}" if arm else "",
        "max": f"{arm.kl.largest:.3g}" if arm else "",
        "top-1": fine_percent(arm.top1_agreement) if arm else "",
        "retention [95 %]": retention_text(arm, level) if arm and not arm.repeat else "",
        "as if kept": _as_if_kept(arm.kept) if arm and arm.kept else "",
        "equal texts": equal,
        "first difference": first,
    }


def _as_if_kept(kept: Kept) -> str:
    if not kept.loss_seen:
        return f"≥ {floor_to(as_if_kept(kept.at_least), 3)}"
    return f"{as_if_kept(kept.retention):.3f}".replace("-", "−")


def floor_to(value: float, digits: int) -> str:
    """A lower bound in so many decimals: rounded down."""
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}".replace("-", "−")


def retention_text(arm: ArmTokens, level: TokenLevel) -> str:
    """An arm's retention with its interval, its bound where no loss is seen, or why it has none."""
    if arm.kept is None:  # without the base's predictions there is no effect to be seen
        return "" if level.effect is None else "cannot be seen"
    if not arm.kept.loss_seen:
        return f"≥ {floor_to(arm.kept.at_least, 4)}"
    text = f"{arm.kept.retention:.4f}"
    if arm.interval95 is not None and arm.kept.retention != 0:
        text += f" [{arm.interval95.low:.4f}, {arm.interval95.high:.4f}]"
    return text.replace("-", "−")


def fine_percent(share: float) -> str:
    """A proportion with two decimals, as what matters lies near 100 %."""
    return f"{100 * share:.2f} %"
