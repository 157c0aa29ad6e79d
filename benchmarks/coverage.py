"""Do the intervals and verdicts of evaluator/ hold what they promise? Exact where that is feasible.

With one sample of each problem every outcome (b, c) is enumerated. With several, runs are drawn:
the number of samples by which a problem gains or loses has a known distribution, so the counts of
problems that a run shows are one multinomial draw. The rivals of the interval see the same draws.

    python -m benchmarks.coverage        writes results/statistics/coverage.md
"""

import argparse
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, t

from evaluator.statistics.few_flips import few_enough, fewest_problems
from evaluator.statistics.score_interval import Floats, mean_statistic, normal_quantile
from evaluator.statistics.tango import score_statistic

Z = normal_quantile(0.90)
BOUNDS = (-1.0, 1.0)

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
    """What came of it at δ = |difference|.

    Attributes:
        coverage: Of the 90 % interval.
        by_interval: Share of runs whose interval lies within ±δ.
        false_match: Share of those that are also few_enough, which the evaluator calls a match.
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
    if difference == 0:
        return Rates(covered, 0.0, 0.0)
    inside = (at_truth < -Z) & (statistic(-difference) > Z)
    matched = inside & few_enough(np.abs(net_flips), problems, difference)
    return Rates(covered, float(weights[inside].sum()), float(weights[matched].sum()))


def settings() -> Iterator[Setting]:
    """Of one sample."""
    for flips in FLIP_RATES:
        for m in PROBLEMS:
            for leaning in LEANINGS:
                yield Setting(m, flips, leaning * flips)


def enumerate_tango(setting: Setting) -> Rates:
    """Exact rates of Tango's interval; outcomes rarer than 1e-9 at an end are left out."""
    m, flips, difference, *_ = setting
    gain, loss = (flips + difference) / 2, (flips - difference) / 2
    b = np.arange(binom.isf(1e-9, m, gain) + 1)[:, None]
    c = np.arange(binom.isf(1e-9, m, loss) + 1)[None, :]
    weights = binom.pmf(b, m, gain) * binom.pmf(c, m - b, loss / (1 - gain))
    return rates(lambda x: score_statistic(x, b, c, m), difference, weights, b - c, m)


def clustered_settings() -> Iterator[Setting]:
    """Of several samples."""
    for n in SAMPLES:
        for mechanism in MECHANISMS:
            for flips in CLUSTERED_FLIP_RATES:
                for m in CLUSTERED_PROBLEMS:
                    for leaning in LEANINGS:
                        yield Setting(m, flips, leaning * flips, n, mechanism)


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


def score(values: Floats, counts: Floats) -> Statistic:
    """The evaluator's."""
    return lambda x: mean_statistic(np.array([x]), values, counts, BOUNDS)


def t_interval(values: Floats, counts: Floats) -> Statistic:
    """Student's on the problems' means."""
    m = counts[0].sum()
    mean = counts @ values / m
    error = np.sqrt((counts @ values**2 / m - mean**2) / (m - 1))
    return lambda x: _over(mean - x, error * t.ppf(0.95, m - 1) / Z)


def null_variance(values: Floats, counts: Floats) -> Statistic:
    """Variance of the clusters' sums under no difference (Obuchowski 1998)."""
    m = counts[0].sum()
    return lambda x: _over(counts @ values / m - x, np.sqrt(counts @ values**2) / m)


def design_effect(values: Floats, counts: Floats) -> Statistic:
    """Tango's on counts over Kish's design effect, the worst one where under ten problems differ.

    Opposite flips within one problem count as none.
    """
    n, m = (len(values) - 1) // 2, counts[0].sum()
    gained, lost = n * (counts @ np.maximum(values, 0)), n * (counts @ np.maximum(-values, 0))
    mean = (gained - lost) / (m * n)
    clustered = (counts @ values**2 / m - mean**2) / (m - 1)
    independent = ((gained + lost) / (m * n) - mean**2) / (m * n - 1)
    effect = np.where(independent > 0, clustered / np.where(independent > 0, independent, 1), n)
    effect = np.where(m - counts[:, n] < 10, n, np.clip(effect, 1, n))
    return lambda x: score_statistic(x, gained / effect, lost / effect, m * n / effect)


RIVALS = {
    "score, problems as units": score,
    "Tango over design effect": design_effect,
    "t of the problems' means": t_interval,
    "Wald, variance under the null": null_variance,
}


def net_flips(values: Floats, counts: Floats) -> Floats:
    """Of each run, in problems."""
    n = (len(values) - 1) // 2
    return np.asarray(np.rint(counts @ (n * values)) / n, dtype=np.float64)


def bootstrap_rates(
    setting: Setting, runs: int, resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Coverage of the percentile bootstrap over problems, and what it alone calls a match."""
    values, counts = draw(setting, runs, rng)
    kept = np.empty((runs, 2))
    for i, row in enumerate(counts):
        means = rng.multinomial(setting.problems, row / row.sum(), size=resamples) @ values
        kept[i] = np.quantile(means / setting.problems, (0.05, 0.95))
    truth, tiny = setting.difference, 1e-12
    covered = (kept[:, 0] <= truth + tiny) & (truth - tiny <= kept[:, 1])
    matched = (kept[:, 0] > -truth + tiny) & (kept[:, 1] < truth - tiny)
    return float(covered.mean()), float(matched.mean())


def _over(distance: Floats, error: Floats) -> Floats:
    sure = np.where(np.abs(distance) < 1e-12, 0.0, np.copysign(np.inf, distance))
    return np.where(error > 0, distance / np.where(error > 0, error, 1), sure)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    ruler = ("---", *("---:" for _ in header[1:]))
    return [*(f"| {' | '.join(cells)} |" for cells in (header, ruler, *rows)), ""]


def exact_section() -> list[str]:
    """One sample: a row for each flip rate and leaning, a column for each m."""
    found = {s: enumerate_tango(s) for s in settings()}
    lines = ["## One sample of each problem, exactly", ""]
    lines += ["Coverage of Tango's 90 % interval; 'one way' is the true difference over the"]
    lines += ["flip rate; † marks fewer than ten expected flips.", ""]
    rows, matches = [], []
    for flips in FLIP_RATES:
        for leaning in LEANINGS:
            picked = [Setting(m, flips, leaning * flips) for m in PROBLEMS]
            name = f"flips {100 * flips:g} %, one way {100 * leaning:g} %"
            marks = ["" if s.problems * flips >= 10 else " †" for s in picked]
            shares = [f"{found[s].coverage:.3f}{k}" for s, k in zip(picked, marks, strict=True)]
            rows.append((name, *shares))
            if leaning:
                matches.append((name, *(f"{found[s].false_match:.3f}" for s in picked)))
    header = ("truth", *(f"m = {m}" for m in PROBLEMS))
    lines += _table(header, rows)
    lines += ["Share of runs called a match where the true difference is δ (5 % is the level):", ""]
    lines += _table(header, matches)
    enough = [r.coverage for s, r in found.items() if s.problems * s.flip_rate >= 10]
    inside = sum(0.88 <= coverage <= 0.93 for coverage in enough)
    worst = max(found.items(), key=lambda item: item[1].false_match)
    lines += [
        f"With at least ten expected flips {inside} of {len(enough)} settings lie within 0.88 to "
        f"0.93, and all within {min(enough):.3f} to {max(enough):.3f}. The largest share of false "
        f"matches is {worst[1].false_match:.4f}, at {worst[0]}.",
        "",
    ]
    return lines


def edge_settings(margin: float, step: int) -> Iterator[Setting]:
    """From the first m whose interval fits into ±δ on: every ``step``-th, then ever fewer.

    The arm loses δ of the problems more than it gains.
    """
    first = int(Z**2 * (1 - margin) / margin)
    near = np.arange(first, 4 * first, step)
    for m in np.concatenate([near, np.geomspace(4 * first, 12 * first, 12).astype(int)]):
        for gain in GAINS:
            yield Setting(int(m), margin * (1 + 2 * gain), margin)


def edge_section() -> list[str]:
    """The largest share of false matches along the edge, by margin."""
    lines = ["## The edge of a match, exactly", ""]
    lines += ["Largest share of runs called a match where the arm loses δ more than it gains, over"]
    lines += ["the number of problems and over what it gains. By the interval alone the first m"]
    lines += ["that can show a match is the worst; the exact test asks for more.", ""]
    rows = []
    for margin in MARGINS:
        found = [(s, enumerate_tango(s)) for s in edge_settings(margin, max(1, int(0.03 / margin)))]
        alone = max(found, key=lambda item: item[1].by_interval)
        both = max(found, key=lambda item: item[1].false_match)
        cells = [f"{100 * margin:g}", str(len(found)), _percent(alone[1].by_interval)]
        cells += [f"m = {alone[0].problems}", _percent(both[1].false_match)]
        rows.append((*cells, f"m = {both[0].problems}", f"{fewest_problems(margin)}"))
    header = ("δ in points", "settings", "interval alone", "at", "with exact test", "at")
    return lines + _table((*header, "fewest problems"), rows)


def clustered_section(runs: int, rng: np.random.Generator) -> list[str]:
    """Several samples: all rivals in short, and the evaluator's interval by mechanism."""
    found: dict[str, list[tuple[Setting, Rates]]] = {name: [] for name in RIVALS}
    weights = np.full(runs, 1 / runs)
    for setting in clustered_settings():
        values, counts = draw(setting, runs, rng)
        for name, rival in RIVALS.items():
            seen = rates(
                rival(values, counts),
                setting.difference,
                weights,
                net_flips(values, counts),
                setting.problems,
            )
            found[name].append((setting, seen))
    lines = [f"## Several samples of each problem, {runs} runs each", ""]
    lines += [f"{len(found[name])} settings: n of {SAMPLES}, m of {CLUSTERED_PROBLEMS}, flips of"]
    lines += [f"{CLUSTERED_FLIP_RATES}, one way of {LEANINGS}, {len(MECHANISMS)} mechanisms.", ""]
    header = ("interval", "lowest", "mean", "below 0.88", "false match at most", "above 6 %")
    rows = []
    for name, pairs in found.items():
        covered = np.array([r.coverage for _, r in pairs])
        matched = np.array([r.by_interval for _, r in pairs])
        shares = (covered.min(), covered.mean(), (covered < 0.88).mean(), matched.max())
        above = int((matched > 0.06).sum())
        rows.append((name, *(f"{share:.3f}" for share in shares), str(above)))
    lines += _table(header, rows)
    rows = []
    for n in SAMPLES:
        for mechanism in MECHANISMS:
            some = [r for s, r in found["score, problems as units"] if s[3:] == (n, mechanism)]
            covered = [r.coverage for r in some]
            worst = max(r.false_match for r in some)
            ends = (min(covered), float(np.mean(covered)), max(covered), worst)
            rows.append((f"n = {n}, {mechanism}", *(f"{end:.3f}" for end in ends)))
    lines += ["Matches here are by the interval alone. The first of them by mechanism, with the"]
    lines += ["exact test too:", ""]
    lines += _table(("samples", "lowest", "mean", "highest", "false match at most"), rows)
    return lines


def bootstrap_section(rng: np.random.Generator) -> list[str]:
    """The bootstrap in three settings; it is too slow for more."""
    rows = []
    for m in (50, 200, 400):
        setting = Setting(m, 0.02, 0.02, 4, "correlated 0.3")
        found = bootstrap_rates(setting, 1000, 500, rng)
        rows.append((f"m = {m}", *(f"{share:.3f}" for share in found)))
    lines = ["Percentile bootstrap over problems, n = 4, correlated 0.3, flips 2 %, one way:", ""]
    return lines + _table(("problems", "coverage", "false match"), rows)


def main() -> None:
    """Write the report."""
    from benchmarks.measure import processor  # imports torch, which tests of this file do without

    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("results/statistics/coverage.md"))
    parser.add_argument("--runs", type=int, default=4000)
    options = parser.parse_args()
    rng = np.random.default_rng(20)
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy"))
    lines = [
        "# Coverage of the intervals and false matches",
        "",
        f"`python -m benchmarks.coverage --runs {options.runs}`, seed 20, with Python "
        f"{platform.python_version()}, {packages}, on {processor()}.",
        "",
        *exact_section(),
        *edge_section(),
        *clustered_section(options.runs, rng),
        *bootstrap_section(rng),
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
