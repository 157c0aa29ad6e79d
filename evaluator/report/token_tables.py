"""A run's token level as tables: for people (text cells) and for programs (a data frame)."""

import math
from collections.abc import Iterator

import pandas as pd

from evaluator.report.summary import RunSummary
from evaluator.report.tables import fine_percent, percent
from evaluator.report.text_table import TextTable
from evaluator.store.records import repeats
from evaluator.tokens.summary import ArmTokens, TokenLevel
from tinylora.models.token_divergence import Kept, as_if_kept


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
    interval, kept, shift = (arm.interval95, arm.kept, arm.shift) if arm else (None, None, None)
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
        "shift_cosine_mean": shift and shift.cosine,
        "shift_cosine_p50": shift and shift.median_cosine,
        "shift_same_sign": shift and shift.same_sign,
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
        "shift cosine": f"{arm.shift.cosine:.3f}".replace("-", "−") if arm and arm.shift else "",
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
