"""False matches among families, samples, arms and looks

Every arm loses δ of the problems more than it gains, so each match is false. Problems of a family
are lost or gained as a whole, one by one, or some families so and some so. The worst of several
settings is found first, and then drawn anew and more often. 'Alone': share of arms called a match.
'Any of 5': share of runs of five such arms, with draws of their own, in which at least one is,
without and with Holm's adjustment.

Below, runs are looked at while they grow by equal steps of their families: share of arms that are
called a match at any look, as if each were the only one, and by p-values over all looks. Then the
share of runs of five and of twenty arms, whose arms all go on to the end, in which any is at any
look, adjusted for both.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.random import Generator

from benchmarks.harness import parser, table, write_page
from evaluator.statistics.compare import match_p
from evaluator.statistics.families import Families
from evaluator.statistics.looks import Look
from evaluator.statistics.score_interval import Floats, score_of

FAMILIES, MARGINS, GAINS = 200, (0.03, 0.06), (0.0, 0.02)
SIZES = {"1": (1,), "3": (3,), "10": (10,), "1 to 10": tuple(range(1, 11)),
         "four of 1, one of 10": (1, 1, 1, 1, 10)}  # fmt: skip
MECHANISMS = {"whole families": 1.0, "mixed": 0.3, "one by one": 0.0}
ARMS = (5, 20)
LOOKS = (2, 4, 10)
AGAIN = 8  # times as many runs in the worst setting
Truth = tuple[Families, int, float, float, float, Generator]  # arguments of losses


def losses(
    families: Families, samples: int, loss: float, gain: float, whole: float, rng: Generator
) -> Floats:
    """Net gain of each problem, float [m] in −1 … 1: mean over samples."""
    number = families.number
    together = rng.random(len(families.sizes))[number, None]
    apart = rng.random((len(number), samples))
    at_random = np.where((rng.random(len(families.sizes)) < whole)[number, None], together, apart)
    return np.asarray(((at_random > 1 - gain).astype(float) - (at_random < loss)).mean(axis=1))


def match_p_of(net: Floats, families: Families, margin: float) -> float:
    """The p-value of a match, of the problems' net gains."""
    statistic, _ = score_of(families.means(net), (-1.0, 1.0), families.sizes)
    net_flips = abs(net.mean()) * families.effective + 1e-9  # a whole one is not rounded down
    return match_p(statistic, net_flips, families.effective, margin)


def looks_at(runs: int, truth: Truth, margin: float, ends: list[int]) -> Floats:
    """P-values [runs, looks] of a match after so many families, as if each look were the only."""
    families = truth[0]
    seen = [families.number < end for end in ends]
    looks = [(one, Families(families.number[one])) for one in seen]
    drawn = (losses(*truth) for _ in range(runs))
    return np.array([[match_p_of(net[one], some, margin) for one, some in looks] for net in drawn])


def measured(
    runs: int, numbers_of_looks: Sequence[int], gains: Sequence[float], rng: Generator
) -> Iterator[tuple[list[str], str, Floats, dict[float, Floats]]]:
    """Each kind of family and number of samples and looks, and the setting with most matches.

    With it come p-values drawn anew there, ``[runs, looks]``, and each look's level for some α:
    p over all looks is at most α where p is at most that.
    """
    for (name, sizes), samples, looks in product(SIZES.items(), (1, 8), numbers_of_looks):
        families = Families(np.repeat(np.arange(FAMILIES), np.resize(sizes, FAMILIES)))
        ends = [FAMILIES * (k + 1) // looks for k in range(looks)]
        squares = np.cumsum(families.sizes**2)
        times = tuple(float(squares[end - 1] / squares[-1]) for end in ends)
        levels = {
            alpha: np.array([Look(times, k + 1).level(alpha) for k in range(looks)])
            for alpha in (0.05, *(0.05 / arms for arms in ARMS))  # Holm's first step
        }
        found = {}
        for margin, gain, (how, whole) in product(MARGINS, gains, MECHANISMS.items()):
            truth = (families, samples, margin + gain, gain, whole, rng)
            p = looks_at(runs, truth, margin, ends)
            where = f"δ = {100 * margin:g}, gains {100 * gain:g} %, {how}"
            found[where] = (p <= levels[0.05]).any(axis=1).mean(), truth, margin
        worst = max(found, key=lambda where: found[where][0])
        p = looks_at(AGAIN * runs, *found[worst][1:], ends)
        yield [name, str(samples), str(looks)], worst, p, levels


def share(p: Floats, level: float | Floats, arms: int = 1) -> str:
    """The share of runs of so many arms in which any is called a match at any look."""
    matches = (p <= level).any(axis=1)
    groups = matches[: len(matches) // arms * arms].reshape(-1, arms)
    return f"{100 * groups.any(axis=1).mean():.1f} %"


def main() -> None:
    args = parser(__doc__, "statistics/false_matches.md", rounds=2000).parse_args()
    columns = ["size of families", "samples", "alone"]
    for arms in ARMS:
        columns += [f"any of {arms}", f"any of {arms}, Holm"]
    rows = []
    for kind, worst, p, _ in measured(args.rounds, (1,), GAINS, np.random.default_rng(21)):
        both = (share(p, level, n) for n in ARMS for level in (0.05, 0.05 / n))
        rows.append((*kind[:2], share(p, 0.05), *both, worst))
    found = table((*columns, "worst setting"), rows)
    few, rows = max(args.rounds // 4, 20), []
    for kind, worst, p, levels in measured(few, LOOKS, (0.0,), np.random.default_rng(22)):
        all_looks = (share(p, levels[0.05 / n], n) for n in (1, *ARMS))
        rows.append((*kind, share(p, 0.05), *all_looks, worst))
    columns = ["size of families", "samples", "looks", "any look", "over all looks"]
    columns += [f"any of {arms}, Holm" for arms in ARMS]
    grown = table((*columns, "worst setting"), rows)
    found += f"\n## Looks\n\n{few} runs a setting, {AGAIN * few} in the worst.\n\n{grown}"
    write_page(args.out, __doc__, found, about=f"numpy {np.__version__}, seed 21")


if __name__ == "__main__":
    main()
