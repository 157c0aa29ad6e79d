"""The token level as a table, a data frame, and sentences."""

import pandas as pd

from evaluator.report.summary import RunSummary
from evaluator.report.tables import percent
from evaluator.report.text_table import TextTable
from evaluator.statistics.compare import Equivalence
from evaluator.statistics.score_interval import Interval
from evaluator.tokens.summary import ArmTokens, TextDivergence, TokenLevel

_LOST = 0.9  # a retention whose interval lies below this is called a loss


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
    header = (
        "arm",
        "mean KL",
        "p50",
        "p99",
        "max",
        "top-1",
        "retention [95 %]",
        "equal texts",
        "first difference",
    )
    rows = tuple(_cells(arm.facts.name, level) for arm in summary.arms)
    if not level.arms:
        return TextTable("", header, rows).select("Texts", ("arm", *header[-2:]))
    count = f"{level.arms[0].kl.tokens} predictions in {level.texts} texts"
    return TextTable(f"Token level: {count}, KL in nats", header, rows)


def token_sentences(summary: RunSummary) -> tuple[str, ...]:
    """What the token level says, in plain words."""
    level = summary.token_level
    if level is None or not level.arms:
        return ()
    sentences = [_effect_sentence(level)]
    for arm in level.arms:
        if arm.arm not in (level.reference, level.control):
            sentences.append(_arm_sentence(arm, level, summary))
    if level.unfinished:
        sentences.append(
            f"The token level is not finished for {', '.join(level.unfinished)}: start the run "
            "again with the same configuration."
        )
    return tuple(sentences)


def _effect_sentence(level: TokenLevel) -> str:
    what = (
        f"Token by token, on {level.arms[0].kl.tokens} predictions in {level.texts} completions of "
        f"{level.reference}"
    )
    floor = f"{level.floor:.2g}"
    if level.effect is None:
        return (
            f"{what}: without the base arm's predictions no retention can be given. The A/A noise "
            f"floor is a mean KL of {floor} nats."
        )
    if not level.visible:
        return (
            f"{what}: the adapter's effect, a mean KL of {level.effect:.2g} nats, is not above the "
            f"A/A noise floor of {floor}. It cannot be seen at all on these tokens, so nothing can "
            "be said about its retention."
        )
    return (
        f"{what}: without the adapter the next-token distribution moves by a mean KL of "
        f"{level.effect:.3g} nats; {level.reference} run again in other batches moves by {floor} "
        "(the A/A noise floor)."
    )


def _arm_sentence(arm: ArmTokens, level: TokenLevel, summary: RunSummary) -> str:
    if arm.repeat:
        return f"{arm.arm} is {level.reference} again (A/A): mean KL {arm.kl.mean:.2g} nats."
    if level.floor is not None and arm.kl.mean <= level.floor:
        return (
            f"{arm.arm} cannot be told from {level.reference} by its predictions: its mean KL of "
            f"{arm.kl.mean:.2g} nats is not above the A/A noise floor."
        )
    if arm.retention is None:
        return f"{arm.arm}'s predictions lie a mean KL of {arm.kl.mean:.3g} nats away."
    if arm.retention < 0:
        text = (
            f"{arm.arm}'s predictions are farther from {level.reference} than the base's are: "
            f"retention {_retention_text(arm, level)}."
        )
    else:
        interval = arm.interval95
        between = "" if interval is None else f" (95 % interval {_between(interval)})"
        text = (
            f"{arm.arm} keeps {_percent(arm.retention)} of the adapter's effect on the "
            f"predictions{between}."
        )
    pair = summary.comparison(arm.arm)
    high = arm.interval95.high if arm.interval95 else arm.retention
    if pair is not None and pair.verdict is not Equivalence.DIFFER and high < _LOST:
        text += " The pass rates do not show this loss."
    return text


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


def _cells(name: str, level: TokenLevel) -> tuple[str, ...]:
    arm, text = level.arm(name), level.divergence(name)
    shown = f"{name} (again)" if name == level.reference else name
    if arm is None:
        numbers = ("",) * 6
    else:
        numbers = (
            f"{arm.kl.mean:.3g}",
            f"{arm.kl.p50:.3g}",
            f"{arm.kl.p99:.3g}",
            f"{arm.kl.largest:.3g}",
            _percent(arm.top1_agreement),
            "" if arm.repeat else _retention_text(arm, level),
        )
    return (shown, *numbers, *_text_cells(text))


def _retention_text(arm: ArmTokens, level: TokenLevel) -> str:
    if arm.retention is None:  # without the base's predictions there is no effect to be seen
        return "" if level.effect is None else "below the floor"
    text = f"{arm.retention:.4f}"
    if arm.interval95 is not None and arm.retention not in (0, 1):
        text += f" [{arm.interval95.low:.4f}, {arm.interval95.high:.4f}]"
    return text.replace("-", "−")


def _percent(share: float) -> str:
    """With two decimals, as what matters lies near 100."""
    return f"{100 * share:.2f} %"


def _between(interval: Interval) -> str:
    text = f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
    return text.replace("-", "−")


def _text_cells(text: TextDivergence | None) -> tuple[str, str]:
    if text is None:
        return "", ""
    note = "" if text.same_noise else " (other noise)"
    where = "" if text.first_difference is None else f"character {text.first_difference:.0f}"
    return percent(text.identical) + note, where
