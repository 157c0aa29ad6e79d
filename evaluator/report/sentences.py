"""What a run's numbers say, in plain words: one sentence a finding."""

from collections.abc import Sequence

from evaluator.report.summary import RunSummary
from evaluator.report.tables import arms_table, margin_text, p_text, percent, plain_points, points
from evaluator.report.token_sentences import token_sentences
from evaluator.statistics.compare import Equivalence, PairedComparison
from evaluator.statistics.few_flips import LEVEL
from evaluator.store.run_directory import RunFacts


def describe(summary: RunSummary) -> tuple[str, ...]:
    """What the comparison says, in plain words, one sentence a finding."""
    sentences = [*_look_sentences(summary), *_problem_sentences(summary)]
    if summary.reference is None:
        return (*sentences, "There is no restored arm, so no arm was compared with it.")
    control = summary.comparison(summary.control) if summary.control else None
    repeats = [pair for pair in summary.comparisons if pair.arm in summary.repeats]
    candidates = [pair for pair in summary.comparisons if summary.is_candidate(pair)]
    sentences.append(_control_sentence(control))
    sentences += [_repeat_sentence(pair, summary.facts) for pair in repeats]
    sentences += _independent_sentences(summary)
    sentences += [_pair_sentence(pair, control) for pair in candidates]
    sentences += _joint_sentences(candidates)
    sentences += token_sentences(summary)
    if summary.comparisons:
        sentences.append(f"{_plan_sentence(summary)} {_sensitivity_sentence(summary)}")
    return tuple(sentences)


def arm_lines(summary: RunSummary) -> tuple[str, ...]:
    """One line an arm: what it passes, and how that compares with the reference."""
    table = arms_table(summary)
    lines = []
    for row in table.rows:
        cells = dict(zip(table.header, row, strict=True))
        text = f"{cells['arm']}: {cells['pass@1']} pass [{cells['95 % interval']}]"
        if difference := cells["difference [95 %]"]:
            text += f", {difference} points against {summary.reference}"
        lines.append(f"{text}: {cells['verdict']}" if cells["verdict"] else text)
    return tuple(lines)


def _look_sentences(summary: RunSummary) -> list[str]:
    """How far a run of several looks has come, and what its numbers hold for."""
    look = summary.look
    if len(look.times) == 1:
        return []
    seen = len(summary.facts.problems)
    text = f"Look {look.number} of {len(look.times)}: {seen} of {summary.planned} problems. "
    if look.number < len(look.times):
        text += (
            "Every arm was decided here, so the run stopped. "
            if summary.decided
            else "The run is not finished. "
        )
    level = f"{100 * look.level(LEVEL):.2g} %"
    return [
        f"{text}P-values and the intervals of differences hold over all looks: at this one a test "
        f"of 5 % has to reach {level} (O'Brien and Fleming). The other intervals are of one look."
    ]


def _problem_sentences(summary: RunSummary) -> list[str]:
    """What is in no number, what was chosen, and what counts as one independent problem."""
    sentences = []
    if left_out := summary.facts.left_out:
        listed = _some([f"{name} ({reason})" for name, reason in left_out.items()])
        sentences.append(
            f"{len(left_out)} problems of the suite cannot be asked and are in no number: {listed}."
        )
    if unjudged := summary.unjudged:
        sentences.append(
            f"The judge itself failed on {len(unjudged)} problems (UKE), which are left out of "
            f"every number: {_some(unjudged)}."
        )
    if chosen := {arm.facts.name: arm.choice_rate for arm in summary.arms if arm.choice_rate}:
        shares = ", ".join(f"{name} {percent(rate)}" for name, rate in chosen.items())
        sentences.append(
            "Some completions hold several programs, or parts of them, of which a rule chose one "
            f"(choice in verdicts.jsonl names it): {shares}."
        )
    count, families = len(summary.problems), len(summary.families.sizes)
    if families < count:
        sentences.append(
            f"The {count} problems form {families} families of variants. The family is the "
            "unit of every interval and test, as its problems pass or fail together."
        )
    if groups := summary.facts.near_copies:
        listed = _some([", ".join(group[:3]) for group in groups])
        sentences.append(
            f"{sum(map(len, groups))} problems of no family are near copies of one another "
            f"({listed}) and are counted as independent, which makes the intervals too narrow: "
            "give them a family in the suite."
        )
    return sentences


def _some(names: Sequence[str]) -> str:
    """The first few of a list that may be long."""
    return "; ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _independent_sentences(summary: RunSummary) -> list[str]:
    """Which arms an engine elsewhere wrote with random numbers of its own."""
    drawn = [p for p in summary.comparisons if not summary.facts.paired(p.arm, p.reference)]
    if not drawn:
        return []
    text = (
        f"{', '.join(pair.arm for pair in drawn)}: drawn independently of {drawn[0].reference}, "
        "with random numbers that the run does not set, so that equal models flip too."
    )
    if not any(map(summary.yardstick, drawn)):
        text += " A second restored arm with a seed of its own would show how much."
    return [text]


def _joint_sentences(candidates: Sequence[PairedComparison]) -> list[str]:
    """Which matches stand among several arms."""
    matches = [pair for pair in candidates if pair.verdict is Equivalence.MATCH]
    if len(candidates) < 2 or not matches:
        return []
    jointly = ", ".join(pair.arm for pair in matches if pair.holds_jointly)
    alone = ", ".join(pair.arm for pair in matches if not pair.holds_jointly)
    return [
        f"{len(candidates)} arms were compared, and each match alone is false in up to 5 % of "
        "runs. So that any false match among them is as rare, p-values are adjusted (Holm): "
        + (f"the matches of {jointly} hold jointly" if jointly else "no match holds jointly")
        + (f"; {alone} only taken alone." if alone else ".")
    ]


def _plan_sentence(summary: RunSummary) -> str:
    margin = f"δ = {margin_text(summary.comparisons[0].margin)} points"
    if summary.plan:
        looks = len(summary.look.times)
        fixed = f"{margin} was" if looks == 1 else f"{margin} and {looks} looks were"
        return f"{fixed} fixed before the first completion (plan {summary.plan})."
    return (
        f"{margin} is not known to have been fixed before the first completion, so a match may "
        "have been chosen by its result."
    )


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
    if control.verdict is not Equivalence.DIFFER:
        matches = control.verdict is Equivalence.MATCH
        return (
            f"The adapter's effect on the pass rate was measured as {effect}. A match with "
            f"{control.reference} says nothing here: the base without the adapter "
            f"{'matches it too' if matches else 'neither differs from it nor matches it'}."
        )
    text = (
        f"The adapter changes the pass rate by {effect}. A match with {control.reference} shows "
        f"that less than δ = {margin_text(control.margin)} points of that were lost."
    )
    least = min(abs(low), abs(high))
    if 2 * control.margin >= least:
        text += (
            " It does not show that most of the effect was kept, as that may be as small as "
            f"{plain_points(least)} points."
        )
    return text


def _repeat_sentence(pair: PairedComparison, facts: RunFacts) -> str:
    if facts.same_noise(pair.arm, pair.reference):
        text = (
            f"{pair.arm} is {pair.reference} once more with the same noise (A/A): it could flip by "
            f"rounding alone, and {percent(pair.flip_rate)} of the samples did. "
        )
        if facts.other_batches(pair.arm, pair.reference):
            return f"{text}That is the noise floor of arms with the same noise."
        return (
            f"{text}In equal batches rounding is equal too, so this is no noise floor: give it a "
            "batch_size of its own, or, at a temperature above 0, a seed."
        )
    floor = (
        f"Noise floor of independent draws: {pair.arm} is {pair.reference} once more (A/A) and "
        f"differs from it by "
        f"{points(pair.difference)} points (90 % interval {points(pair.interval90.low)} to "
        f"{points(pair.interval90.high)}), with {percent(pair.flip_rate)} of the samples flipped."
    )
    if pair.verdict is Equivalence.MATCH:
        return floor
    return (
        f"{floor} Not even this repeat is shown to be equal within ±{margin_text(pair.margin)} "
        "points: the run is too small, or something besides the model has changed."
    )


def _pair_sentence(pair: PairedComparison, control: PairedComparison | None) -> str:
    numbers = (
        f"difference {points(pair.difference)} points, 90 % interval "
        f"{points(pair.interval90.low)} to {points(pair.interval90.high)}, "
        f"{pair.gained} gained and {pair.lost} lost."
    )
    margin = margin_text(pair.margin)
    if pair.verdict is Equivalence.DIFFER:
        return f"{pair.arm} differs from {pair.reference}: {numbers}"
    if pair.verdict is Equivalence.INCONCLUSIVE:
        return (
            f"{pair.arm} against {pair.reference} is inconclusive at ±{margin} points: {numbers} "
            "More problems or samples would be needed."
        )
    text = f"{pair.arm} matches {pair.reference} within ±{margin} points: {numbers}"
    if control is None:
        return f"{text} Without a base arm it cannot be told whether this match means anything."
    return text if pair.informative else f"{text} This match is uninformative."


def _sensitivity_sentence(summary: RunSummary) -> str:
    """What the run could have seen with the flips of its noise.

    That is a repeat's of the compared arms' kind; without one, those of the arm that flipped most
    and does not differ: the flips of an arm that differs are its difference.
    """
    pairs = summary.comparisons
    size = pairs[0]
    units = "problems" if size.families == size.problems else "families of equal size"
    text = (
        f"{size.effective_families} {units} could have shown a δ of "
        f"{plain_points(size.shown_margin)} points at best."
    )
    compared = [pair for pair in pairs if pair.arm not in summary.repeats]
    repeats = [found for pair in compared if (found := summary.yardstick(pair)) is not None]
    alike = [pair for pair in compared if pair.verdict is not Equivalence.DIFFER]
    worst = max(repeats or alike, key=lambda pair: pair.flip_rate, default=None)
    if not worst or worst.provable_margin is None or worst.detectable_difference is None:
        return text
    return (
        f"{text} With as many flips as {worst.arm} has ({percent(worst.flip_rate)} of the "
        f"samples), 80 % of such runs would show equal arms to match at δ = "
        f"{plain_points(worst.provable_margin)} points, and would see a true difference of "
        f"{plain_points(worst.detectable_difference)} points."
    )
