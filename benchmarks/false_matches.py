"""False matches among families, samples and arms

Every arm loses δ of the problems more than it gains, so each match is false. Problems of a family
are lost or gained as a whole, one by one, or some families so and some so. 'Alone': share of arms
called a match, in the worst setting. 'Any of 5': share of runs of five such arms, with draws of
their own, in which at least one is, without and with Holm's adjustment.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from benchmarks.harness import parser, table, write_page
from evaluator.statistics.compare import match_p
from evaluator.statistics.families import Families
from evaluator.statistics.score_interval import Floats, score_of
from evaluator.statistics.several_arms import holm

FAMILIES, MARGINS, GAINS = 200, (0.03, 0.06), (0.0, 0.02)
SIZES = {"1": (1,), "3": (3,), "10": (10,), "1 to 10": tuple(range(1, 11)),
         "four of 1, one of 10": (1, 1, 1, 1, 10)}  # fmt: skip
MECHANISMS = {"whole families": 1.0, "mixed": 0.3, "one by one": 0.0}
ARMS = (5, 20)
Generator = np.random.Generator


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


def rows(runs: int, rng: Generator) -> Iterator[tuple[str, ...]]:
    """The worst setting of each kind of family and number of samples."""
    for (name, sizes), samples in product(SIZES.items(), (1, 8)):
        families = Families(np.repeat(np.arange(FAMILIES), np.resize(sizes, FAMILIES)))
        found = {}
        for margin, gain, (how, whole) in product(MARGINS, GAINS, MECHANISMS.items()):
            truth = (families, samples, margin + gain, gain, whole, rng)
            p = np.array([match_p_of(losses(*truth), families, margin) for _ in range(runs)])
            found[f"δ = {100 * margin:g}, gains {100 * gain:g} %, {how}"] = p
        worst = max(found, key=lambda setting: np.mean(found[setting] <= 0.05))
        cells = [f"{100 * np.mean(found[worst] <= 0.05):.1f} %"]
        for arms in ARMS:
            groups = found[worst][: runs // arms * arms].reshape(-1, arms)
            joint = [min(holm(list(group))) for group in groups]
            for least in (groups.min(axis=1), np.array(joint)):
                cells.append(f"{100 * np.mean(least <= 0.05):.1f} %")
        yield (name, str(samples), *cells, worst)


def main() -> None:
    args = parser(__doc__, "statistics/false_matches.md", rounds=2000).parse_args()
    columns = ["size of families", "samples", "alone"]
    for arms in ARMS:
        columns += [f"any of {arms}", f"any of {arms}, Holm"]
    found = table((*columns, "worst setting"), rows(args.rounds, np.random.default_rng(21)))
    write_page(args.out, __doc__, found, about=f"numpy {np.__version__}, seed 21")


if __name__ == "__main__":
    main()
