"""Paired comparison of arms: flips, intervals, and a verdict that may be wrong in known ways only.

- ``match``: the 90 % interval of the difference lies inside (−δ, +δ), which is the pair of
  one-sided 5 % tests of equivalence (Schuirmann 1987), and an exact test rules out a loss of δ.
- ``differ``: not a match, and the 95 % interval excludes 0.
- ``inconclusive``: neither. The run was too small to tell.

Where the control does not ``differ`` from the reference, every match is *uninformative*.
Shapes: m problems, n samples of each; ``passes`` is bool [m, n], with the same problems in the
same order and the same noise per sample in each arm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.stats import binomtest

from evaluator.statistics.few_flips import few_enough, shown_margin
from evaluator.statistics.power import detectable_difference, provable_margin
from evaluator.statistics.proportions import Passes
from evaluator.statistics.score_interval import Interval, mean_interval
from evaluator.statistics.tango import tango_interval


class Equivalence(StrEnum):
    """What a comparison says about two pass rates."""

    MATCH = "match"
    DIFFER = "differ"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class PairedComparison:
    """An arm against the reference, on the same problems and noise.

    Attributes:
        gained: Samples that only the arm passed.
        lost: Samples that only the reference passed.
        difference: Pass rate of the arm minus that of the reference.
        flip_rate: Share of the samples that flipped, either way.
        p_value: Exact McNemar test; with n > 1 the sign-flip test over problems.
        shown_margin: Smallest δ that m problems could have shown, without any flip.
        provable_margin: Smallest δ that such a run shows with a chance of 80 % where the arms are
            equal but flip at the rate seen; None where m problems are too few.
        detectable_difference: Smallest true difference that such a run calls ``differ`` as often.
        informative: For a match with a control: whether that differs from the reference.
    """

    arm: str
    reference: str
    problems: int
    samples: int
    gained: int
    lost: int
    difference: float
    flip_rate: float
    interval95: Interval
    interval90: Interval
    p_value: float
    margin: float
    shown_margin: float
    provable_margin: float | None
    detectable_difference: float | None
    verdict: Equivalence
    informative: bool | None = None


def equivalence_verdict(
    interval90: Interval, interval95: Interval, margin: float, net_flips: float, problems: int
) -> Equivalence:
    """Apply the rule of this module; net flips are |gained − lost| in problems."""
    inside = -margin < interval90.low and interval90.high < margin
    if inside and few_enough(net_flips, problems, margin):
        return Equivalence.MATCH
    if interval95.low > 0 or interval95.high < 0:
        return Equivalence.DIFFER
    return Equivalence.INCONCLUSIVE


def compare_pair(
    arm: str, passes: Passes, reference: str, reference_passes: Passes, margin: float
) -> PairedComparison:
    """Compare one arm with the reference, passes bool [m, n] each; ValueError otherwise."""
    if passes.shape != reference_passes.shape or passes.size == 0:
        raise ValueError(
            f"expected two equal shapes [problems, samples] with at least one problem, found "
            f"{passes.shape} for {arm} and {reference_passes.shape} for {reference}"
        )
    problems, samples = passes.shape
    differences = passes.astype(np.int64) - reference_passes
    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    if samples == 1:
        intervals = [tango_interval(gained, lost, problems, level) for level in (0.95, 0.90)]
        p_value = exact_mcnemar(gained, lost)
    else:
        means = differences.mean(axis=1)
        intervals = [mean_interval(means, (-1.0, 1.0), level) for level in (0.95, 0.90)]
        p_value = exact_sign_flip(differences.sum(axis=1).tolist())
    interval95, interval90 = intervals
    # What the width of the interval depends on; with one sample the rate of flips.
    mean_square = float((differences.mean(axis=1) ** 2).mean())
    return PairedComparison(
        arm=arm,
        reference=reference,
        problems=problems,
        samples=samples,
        gained=gained,
        lost=lost,
        difference=float(differences.mean()),
        flip_rate=(gained + lost) / differences.size,
        interval95=interval95,
        interval90=interval90,
        p_value=p_value,
        margin=margin,
        shown_margin=shown_margin(problems),
        provable_margin=provable_margin(problems, mean_square),
        detectable_difference=detectable_difference(problems, mean_square, margin),
        verdict=equivalence_verdict(
            interval90, interval95, margin, abs(gained - lost) / samples, problems
        ),
    )


def compare_arms(
    passes: Mapping[str, Passes], reference: str, control: str | None, margin: float
) -> tuple[PairedComparison, ...]:
    """Compare every other arm with the reference; ``passes`` is bool [m, n] by arm."""
    pairs = [
        compare_pair(arm, own, reference, passes[reference], margin)
        for arm, own in passes.items()
        if arm != reference
    ]
    effect = next((p.verdict is Equivalence.DIFFER for p in pairs if p.arm == control), None)
    return tuple(
        replace(pair, informative=effect)
        if pair.verdict is Equivalence.MATCH and pair.arm != control
        else pair
        for pair in pairs
    )


def exact_mcnemar(gained: int, lost: int) -> float:
    """Two-sided p-value of McNemar's exact test (1947): each pair that differs is a fair coin.

    >>> exact_mcnemar(6, 0)
    0.03125
    """
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def exact_sign_flip(differences: Sequence[int]) -> float:
    """P(|Σ ±dᵢ| ≥ |Σ dᵢ|), exactly: the two-sided p-value of the sign-flip test over problems.

    dᵢ is the number of samples of a problem that the first arm passed minus that of the second: its
    sign is a fair coin where the samples of one problem are not independent.

    >>> exact_sign_flip([1, 1, 1, 1, 1, 1, 0])
    0.03125
    """
    sizes = [abs(d) for d in differences if d]
    reach = sum(sizes)
    probability = np.zeros(2 * reach + 1)
    probability[reach] = 1.0
    for size in sizes:
        # |Σ| ≤ reach, so nothing wraps around.
        probability = 0.5 * (np.roll(probability, size) + np.roll(probability, -size))
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(probability[sums >= abs(sum(differences))].sum()))
