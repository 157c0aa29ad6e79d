"""The token level as a table and as a data frame."""

import pandas as pd

from evaluator.report.summary import RunSummary
from evaluator.report.tables import percent
from evaluator.report.text_table import TextTable
from evaluator.tokens.summary import ArmTokens, TokenLevel


def token_frame(summary: RunSummary) -> pd.DataFrame | None:
    """One row an arm, KL in nats; None without a restored arm."""
    level = summary.token_level
    if level is None:
        return None
    rows = [_frame_row(arm.facts.name, level) for arm in summary.arms]
    return pd.DataFrame(rows).convert_dtypes()


def token_table(summary: RunSummary) -> TextTable | None:
    """The table for people; None where nothing was compared."""
    level = summary.token_level
    if level is None or not (level.arms or level.divergences):
        return None
    rows = [_cells(arm.facts.name, level) for arm in summary.arms]
    if not level.arms:
        return TextTable.of("", rows).select("Texts", ("arm", "equal texts", "first difference"))
    count = f"{level.arms[0].kl.tokens} predictions in {level.texts} texts"
    return TextTable.of(f"Token level: {count}, KL in nats", rows)


def _frame_row(name: str, level: TokenLevel) -> dict[str, object]:
    arm, text = level.arm(name), level.divergence(name)
    interval = arm.interval95 if arm else None
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
        "retention": arm and arm.retention,
        "retention_low95": interval and interval.low,
        "retention_high95": interval and interval.high,
        "floor": level.floor,
        "visible": level.visible if arm else None,
        "identical_texts": text and text.identical,
        "first_difference_characters": text and text.first_difference,
        "same_noise": text and text.same_noise,
    }


def _cells(name: str, level: TokenLevel) -> dict[str, str]:
    arm, text = level.arm(name), level.divergence(name)
    equal = first = ""
    if text is not None:
        equal = percent(text.identical) + ("" if text.same_noise else " (other noise)")
        if text.first_difference is not None:
            first = f"character {text.first_difference:.0f}"
    return {
        "arm": f"{name} (again)" if name == level.reference else name,
        "mean KL": f"{arm.kl.mean:.3g}" if arm else "",
        "p50": f"{arm.kl.p50:.3g}" if arm else "",
        "p99": f"{arm.kl.p99:.3g}" if arm else "",
        "max": f"{arm.kl.largest:.3g}" if arm else "",
        "top-1": fine_percent(arm.top1_agreement) if arm else "",
        "retention [95 %]": retention_text(arm, level) if arm and not arm.repeat else "",
        "equal texts": equal,
        "first difference": first,
    }


def retention_text(arm: ArmTokens, level: TokenLevel) -> str:
    """An arm's retention with its interval, or why it has none."""
    if arm.retention is None:  # without the base's predictions there is no effect to be seen
        return "" if level.effect is None else "below the floor"
    text = f"{arm.retention:.4f}"
    if arm.interval95 is not None and arm.retention not in (0, 1):
        text += f" [{arm.interval95.low:.4f}, {arm.interval95.high:.4f}]"
    return text.replace("-", "−")


def fine_percent(share: float) -> str:
    """A proportion with two decimals, as what matters lies near 100 %."""
    return f"{100 * share:.2f} %"
