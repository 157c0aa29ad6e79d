"""Coverage of the intervals and false matches

With one sample of each problem every outcome (b, c) is enumerated. With several, runs are drawn:
the number of samples by which a problem gains or loses has a known distribution, so the counts of
problems that a run shows are one multinomial draw. 'One way' is the true difference over the flip
rate. Of runs whose true difference is δ, 5 % may be called a match.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, norm

from benchmarks.harness import parser, table, write_page
from evaluator.statistics.few_flips import LEVEL, chance_of_so_few, fewest_problems
from evaluator.statistics.score_interval import Floats, mean_statistic
from evaluator.statistics.tango import score_statistic

Z = float(norm.isf(0.05))

# Chosen before any of them was run.
FLIP_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
PROBLEMS = (100, 150, 200, 300, 500, 1000)
LEANINGS = (0.0, 0.5, 1.0)  # true difference over flip rate; 1: all flips one way
# Of the search along the edge of a match: δ, and what is gained beside the loss, over δ.
MARGINS, GAINS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1), (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
CLUSTERED_FLIP_RATES, CLUSTERED_PROBLEMS, SAMPLES = (0.02, 0.05, 0.1), (50, 100, 200, 400), (4, 8)


class Setting(NamedTuple):
    """A truth: m problems of n samples, flips at a rate ψ, a true difference, a mechanism."""

    problems: int
    flip_rate: float
    difference: float
    samples: int = 1
    mechanism: str = "one sample"


class Rates(NamedTuple):
    """What came of it at δ = |difference|: coverage of the 90 % interval, and shares of runs.

    ``by_interval``: whose interval lies within ±δ. ``false_match``: whose net flips are
    also few enough, which the evaluator calls a match.
    """

    coverage: float
    by_interval: float
    false_match: float


Statistic = Callable[[float], Floats]  # T at one λ, for every run


def rates(
    statistic: Statistic, difference: float, weights: Floats, net_flips: Floats, problems: int
) -> Rates:
    """Coverage and false matches, over runs of these weights and net flips, in problems."""
    at_truth = statistic(difference)
    covered = float(weights[np.abs(at_truth) <= Z].sum())
    inside = (at_truth < -Z) & (statistic(-difference) > Z)
    matched = inside & (chance_of_so_few(np.abs(net_flips), problems, difference) <= LEVEL)
    return Rates(covered, float(weights[inside].sum()), float(weights[matched].sum()))


def enumerate_tango(setting: Setting) -> Rates:
    """Exact rates of Tango's interval; outcomes rarer than 1e-9 at an end are left out."""
    m, flips, difference, *_ = setting
    gain, loss = (flips + difference) / 2, (flips - difference) / 2
    b = np.arange(binom.isf(1e-9, m, gain) + 1)[:, None]
    c = np.arange(binom.isf(1e-9, m, loss) + 1)[None, :]
    weights = binom.pmf(b, m, gain) * binom.pmf(c, m - b, loss / (1 - gain))
    return rates(lambda x: score_statistic(x, b, c, m), difference, weights, b - c, m)


def _sum_of_samples(n: int, gain: float, loss: float) -> Floats:
    one, total = np.array([loss, 1 - gain - loss, gain]), np.ones(1)
    for _ in range(n):
        total = np.convolve(total, one)
    return total


def _copies(n: int, gain: float, loss: float) -> Floats:
    pmf = np.zeros(2 * n + 1)
    pmf[[0, n, 2 * n]] = loss, 1 - gain - loss, gain
    return pmf


def _unstable(n: int, gain: float, loss: float) -> Floats:
    """Few problems hold all flips: each of their samples flips with a chance of one half."""
    share = 2 * (gain + loss)
    pmf = share * _sum_of_samples(n, gain / share, loss / share)
    pmf[n] += 1 - share
    return pmf


def _one_sided(n: int, gain: float, loss: float) -> Floats:
    """Likewise, and a problem flips to one side only."""
    half = binom.pmf(np.arange(n + 1), n, 0.5)
    pmf = np.zeros(2 * n + 1)
    pmf[n:] += 2 * gain * half
    pmf[: n + 1] += 2 * loss * half[::-1]
    pmf[n] += 1 - 2 * (gain + loss)
    return pmf


# Distribution of the samples gained less those lost by a problem, float [2n + 1] from −n to n.
MECHANISMS: dict[str, Callable[[int, float, float], Floats]] = {
    "independent": _sum_of_samples,
    "correlated 0.3": lambda n, p, q: 0.7 * _sum_of_samples(n, p, q) + 0.3 * _copies(n, p, q),
    "copies": _copies,
    "few unstable problems": _unstable,
    "few, one-sided": _one_sided,
}


def draw(setting: Setting, runs: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Values that a problem can show, [2n + 1], and problems by value, [runs, 2n + 1]."""
    m, flips, difference, n, mechanism = setting
    pmf = MECHANISMS[mechanism](n, (flips + difference) / 2, (flips - difference) / 2)
    values = np.arange(-n, n + 1) / n
    return values, rng.multinomial(m, pmf / pmf.sum(), size=runs).astype(np.float64)


def draw_rates(setting: Setting, runs: int, rng: np.random.Generator) -> Rates:
    """Rates of the evaluator's interval, over so many drawn runs."""
    values, counts = draw(setting, runs, rng)
    net_flips = np.rint(counts @ (setting.samples * values)) / setting.samples  # in problems

    def statistic(x: float) -> Floats:
        return mean_statistic(np.array([x]), values, counts, (-1.0, 1.0))

    weights = np.full(runs, 1 / runs)
    return rates(statistic, setting.difference, weights, net_flips, setting.problems)


def exact_table(kind: str, leanings: Sequence[float]) -> str:
    """One rate of Tango's interval: a row for each flip rate and leaning, a column for each m."""
    rows = []
    for flips, leaning in product(FLIP_RATES, leanings):
        found = [enumerate_tango(Setting(m, flips, leaning * flips)) for m in PROBLEMS]
        name = f"flips {100 * flips:g} %, one way {100 * leaning:g} %"
        rows.append((name, *(f"{getattr(rates, kind):.3f}" for rates in found)))
    return table(("truth", *(f"m = {m}" for m in PROBLEMS)), rows)


def edge_settings(margin: float, step: int) -> Iterator[Setting]:
    """From the first m whose interval fits into ±δ on: every ``step``-th, then ever fewer.

    The arm loses δ of the problems more than it gains.
    """
    first = int(Z**2 * (1 - margin) / margin)
    near = np.arange(first, 4 * first, step)
    for m in np.concatenate([near, np.geomspace(4 * first, 12 * first, 12).astype(int)]):
        for gain in GAINS:
            yield Setting(int(m), margin * (1 + 2 * gain), margin)


def edge_rows() -> Iterator[tuple[str, ...]]:
    """The largest share of false matches along the edge, by margin."""
    for margin in MARGINS:
        found = [(s, enumerate_tango(s)) for s in edge_settings(margin, max(1, int(0.03 / margin)))]
        cells = [f"{100 * margin:g}", str(len(found))]
        for kind in ("by_interval", "false_match"):
            setting, worst = max(found, key=lambda item, kind=kind: getattr(item[1], kind))
            cells += [f"{100 * getattr(worst, kind):.1f} %", f"m = {setting.problems}"]
        yield (*cells, str(fewest_problems(margin)))


def clustered_rows(runs: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Several samples, by mechanism."""
    for n, mechanism in product(SAMPLES, MECHANISMS):
        found = [
            draw_rates(Setting(m, flips, leaning * flips, n, mechanism), runs, rng)
            for flips, m, leaning in product(CLUSTERED_FLIP_RATES, CLUSTERED_PROBLEMS, LEANINGS)
        ]
        coverage, alone, both = zip(*found, strict=True)
        cells = (min(coverage), sum(coverage) / len(coverage), max(alone), max(both))
        yield (f"n = {n}, {mechanism}", *(f"{cell:.3f}" for cell in cells))


def main() -> None:
    args = parser(__doc__, "statistics/coverage.md", rounds=4000).parse_args()
    rng = np.random.default_rng(20)
    edge = ("δ in points", "settings", "interval alone", "at", "with exact test", "at", "fewest m")
    clustered = ("samples", "lowest coverage", "mean", "false match by interval alone",
                 "with exact test")  # fmt: skip
    write_page(
        args.out,
        __doc__,
        "## Coverage, one sample of each problem",
        exact_table("coverage", LEANINGS),
        "## Matches where the true difference is δ, one sample of each problem",
        exact_table("false_match", LEANINGS[1:]),
        "## Most matches along the edge, where the arm loses δ more than it gains",
        table(edge, edge_rows()),
        f"## Several samples of each problem, {args.rounds} runs of each setting",
        table(clustered, clustered_rows(args.rounds, rng)),
        about=f"numpy {np.__version__}, seed 20",
    )


if __name__ == "__main__":
    main()
