"""What a run's token level says, in plain words: one sentence a finding."""

from evaluator.report.summary import RunSummary
from evaluator.report.tables import fine_percent, percent
from evaluator.report.token_tables import retention_text
from evaluator.store.records import repeats
from evaluator.tokens.summary import ArmTokens, TokenLevel
from tinylora.models.token_divergence import as_if_kept


def token_sentences(summary: RunSummary) -> tuple[str, ...]:
    """The effect, its floor, and how much of it each arm kept; nothing without a token level."""
    level = summary.token_level
    if level is None or not level.arms:
        return ()
    shown = (a for a in level.arms if a.arm not in (level.control, *repeats(level.reference)))
    sentences = [_effect_sentence(level), *(_arm_sentence(arm, level) for arm in shown)]
    if silent := [arm.name for arm in summary.facts.arms if not arm.logits]:
        sentences.append(
            f"The token level has nothing of {', '.join(silent)}: what made these texts gives no "
            "logits."
        )
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
    floor = "unknown" if level.floor is None else f"{level.floor:.2g}"
    if level.effect is None:
        return (
            f"{what}: without the base arm's predictions no retention can be given. Other "
            f"arithmetic moves {level.reference} itself by a mean KL of {floor} nats (the floor)."
        )
    if not level.visible:
        return (
            f"{what}: the adapter's effect, a mean KL of {level.effect:.2g} nats, is too near the "
            f"{floor} by which other arithmetic moves {level.reference} itself (the floor). It "
            "cannot be seen on these tokens, so nothing can be said about its retention."
        )
    text = (
        f"{what}, in float32: without the adapter the next-token distribution moves by a mean KL "
        f"of {level.effect:.3g} nats; other arithmetic moves {level.reference} itself by {floor} "
        "(the floor)."
    )
    if level.drowned:
        text += (
            f" The arithmetic of this run ({level.dtype}) moves it by {level.computed:.3g}, more "
            "than the adapter does: completions and pass rates of this run show rounding rather "
            "than the adapter."
        )
    if level.computed is None:
        text += (
            f" What the run's own arithmetic ({level.dtype}) does to it was not compared: pass "
            "rates may show rounding rather than the adapter."
        )
    return text


def _arm_sentence(arm: ArmTokens, level: TokenLevel) -> str:
    if arm.repeat:
        return f"{arm.arm} is {level.reference} again (A/A): mean KL {arm.kl.mean:.2g} nats."
    if arm.kept is None:
        return f"{arm.arm}'s predictions lie a mean KL of {arm.kl.mean:.3g} nats away."
    if not arm.kept.loss_seen:
        return (
            f"{arm.arm} cannot be told from {level.reference} by its predictions: its mean KL of "
            f"{arm.kl.mean:.2g} nats is what other arithmetic does to equal models. At most "
            f"{100 * (1 - arm.kept.at_least):.2g} % of the adapter's effect is lost."
        )
    kept = arm.kept.retention
    if kept < 0:
        text = (
            f"{arm.arm}'s predictions are farther from {level.reference} than the base's are: "
            f"retention {retention_text(arm, level)}."
        )
    else:
        between = ""
        if arm.interval95 is not None:
            low, high = 100 * arm.interval95.low, 100 * arm.interval95.high
            between = f" (95 % interval {low:.2f} to {high:.2f})".replace("-", "−")
        text = (
            f"{arm.arm} has a retention of {fine_percent(kept)}{between} on the "
            f"predictions, as if {fine_percent(as_if_kept(kept))} of the adapter's change "
            "had been kept: KL grows with its square."
        )
    if arm.shift is not None:
        text += (
            f" It moves the logits in the trained direction with a cosine of "
            f"{arm.shift.cosine:.2f} (median {arm.shift.median_cosine:.2f}), "
            f"{percent(arm.shift.same_sign)} of them the same way; by chance 50 % would."
        )
    return text
