"""Paired comparison of arms: flips, intervals, and a verdict that may be wrong in known ways only.

- ``match``: the 90 % interval of the difference lies inside (−δ, +δ), which is the pair of
  one-sided 5 % tests of equivalence (Schuirmann 1987), and an exact test rules out a loss of δ:
  the largest of the three p-values is at most 5 %.
- ``differ``: not a match, and the 95 % interval excludes 0.
- ``inconclusive``: neither. The run was too small to tell.

Where the control does not ``differ`` from the reference, every match is *uninformative*.

Test and interval (``mcnemar``, ``score_interval``) have the family as the unit. With one sample of
problems of no family they are McNemar's exact test and Tango's interval.

Each comparison may be a false match in about 5 % of runs, so among many arms some will be: matches
whose Holm adjusted p-value over all compared arms is at most 5 % hold jointly. Where a run is
looked at several times, p-values and intervals hold over all looks (``looks``).

Shapes: m problems, n samples of each; ``passes`` is bool [m, n], with the same problems in the
same order and the same noise per sample in each arm.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.stats import norm

from evaluator.statistics.families import Families
from evaluator.statistics.few_flips import LEVEL, chance_of_so_few, shown_margin
from evaluator.statistics.looks import ONLY_LOOK, Look
from evaluator.statistics.mcnemar import exact_sign_flip
from evaluator.statistics.power import detectable_difference, provable_margin
from evaluator.statistics.proportions import Passes
from evaluator.statistics.score_interval import Floats, Interval, invert, score_of

_BOUNDS = (-1.0, 1.0)


class Equivalence(StrEnum):
    """What a comparison says about two pass rates."""

    MATCH = "match"
    DIFFER = "differ"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class PairedComparison:
    """An arm against the reference, on the same problems and noise.

    Attributes:
        families: Independent units among the problems.
        effective_families: How many of equal size would show as much (``Families.effective``).
        gained: Samples that only the arm passed.
        lost: Samples that only the reference passed.
        difference: Pass rate of the arm minus that of the reference.
        flip_rate: Share of the samples that flipped, either way.
        p_value: Sign-flip test over families; with n = 1 and lone problems McNemar's exact test.
        match_p: Of the hypothesis that the arms differ by δ or more; a match where it is small.
        shown_margin: Smallest δ that so many families could have shown, without any flip.
        provable_margin: Smallest δ that such a run shows with a chance of 80 % where the arms are
            equal but flip at the rate seen; None where m problems are too few.
        detectable_difference: Smallest true difference that such a run calls ``differ`` as often.
        informative: For a match with a control: whether that differs from the reference.
        joint_match_p: ``match_p`` adjusted for all compared arms (Holm); None for control and
            repeats, which nobody chooses among.
    """

    arm: str
    reference: str
    problems: int
    families: int
    effective_families: int
    samples: int
    gained: int
    lost: int
    difference: float
    flip_rate: float
    interval95: Interval
    interval90: Interval
    p_value: float
    match_p: float
    margin: float
    shown_margin: float
    provable_margin: float | None
    detectable_difference: float | None
    verdict: Equivalence
    informative: bool | None = None
    joint_match_p: float | None = None

    @property
    def holds_jointly(self) -> bool | None:
        """Whether a match also stands among all compared arms; None for control and repeats."""
        joint = self.joint_match_p
        return None if joint is None else self.verdict is Equivalence.MATCH and joint <= LEVEL


def verdict_of(match_p: float, interval95: Interval) -> Equivalence:
    """Apply the rule of this module."""
    if match_p <= LEVEL:
        return Equivalence.MATCH
    if interval95.low > 0 or interval95.high < 0:
        return Equivalence.DIFFER
    return Equivalence.INCONCLUSIVE


def match_p(
    statistic: Callable[[Floats], Floats], net_flips: float, units: int, margin: float
) -> float:
    """P-value of a match: the largest of the one-sided tests at −δ and δ and of the exact test."""
    low, high = statistic(np.array([-margin, margin]))
    return float(max(norm.sf(low), norm.sf(-high), chance_of_so_few(net_flips, units, margin)))


def compare_pair(
    arm: str,
    passes: Passes,
    reference: str,
    reference_passes: Passes,
    margin: float,
    families: Families | None = None,
    look: Look = ONLY_LOOK,
) -> PairedComparison:
    """Compare one arm with the reference, passes bool [m, n] each.

    ``families`` are those of the m problems; by default each stands alone.
    """
    problems, samples = passes.shape
    families = families or Families.alone(problems)
    differences = passes.astype(np.int8) - reference_passes
    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    net = differences.sum(axis=1, dtype=np.int64)
    means = families.means(net / samples)
    p_value = exact_sign_flip(families.sums(net))
    statistic, estimate = score_of(means, _BOUNDS, families.sizes)
    level, half = look.level(LEVEL), look.level(LEVEL / 2)
    interval95, interval90 = (invert(statistic, estimate, _BOUNDS, tail) for tail in (half, level))
    units = families.effective
    net_flips = abs(gained - lost) * units / differences.size
    # What the width of the interval depends on; with one sample of lone problems the flip rate.
    shares = families.sizes * units / problems
    mean_square = min(1.0, float(((shares * means) ** 2).sum()) / units)
    p_of_match = look.over_all(match_p(statistic, net_flips, units, margin))
    return PairedComparison(
        arm=arm,
        reference=reference,
        problems=problems,
        families=len(means),
        effective_families=units,
        samples=samples,
        gained=gained,
        lost=lost,
        difference=(gained - lost) / differences.size,
        flip_rate=(gained + lost) / differences.size,
        interval95=interval95,
        interval90=interval90,
        p_value=min(1.0, 2 * look.over_all(p_value / 2)),
        match_p=p_of_match,
        margin=margin,
        shown_margin=shown_margin(units, level),
        provable_margin=provable_margin(units, mean_square, look=look),
        detectable_difference=detectable_difference(units, mean_square, margin, look=look),
        verdict=verdict_of(p_of_match, interval95),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    Where those below 5 % are acted on, the chance of a single error among all is at most 5 %,
    however they depend on each other (S. Holm, Scandinavian Journal of Statistics 6, 1979, 65-70).

    >>> holm([0.03, 0.01, 0.04])
    [0.06, 0.03, 0.06]
    """
    given = np.array(p_values, dtype=np.float64)
    order = given.argsort()
    times = np.arange(len(given), 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(times * given[order]))
    return [float(adjusted[rank]) for rank in order.argsort()]


def compare_arms(
    passes: Mapping[str, Passes],
    reference: str,
    control: str | None,
    margin: float,
    families: Families | None = None,
    repeats: Collection[str] = (),
    look: Look = ONLY_LOOK,
) -> tuple[PairedComparison, ...]:
    """Compare every other arm with the reference; ``passes`` is bool [m, n] by arm.

    ``repeats`` are arms that are the reference once more.
    """
    pairs = [
        compare_pair(arm, own, reference, passes[reference], margin, families, look)
        for arm, own in passes.items()
        if arm != reference
    ]
    effect = next((p.verdict is Equivalence.DIFFER for p in pairs if p.arm == control), None)
    alone = {p.arm: p.match_p for p in pairs if p.arm != control and p.arm not in repeats}
    joint = dict(zip(alone, holm(list(alone.values())), strict=True))
    return tuple(
        replace(
            pair,
            joint_match_p=joint.get(pair.arm),
            informative=effect
            if pair.verdict is Equivalence.MATCH and pair.arm != control
            else None,
        )
        for pair in pairs
    )
