"""How many problems a run needs before it is made: ``tinylora-eval plan``."""

from evaluator.config.run_config import MOST_LOOKS
from evaluator.errors import ConfigError
from evaluator.report.text_table import TextTable
from evaluator.statistics.looks import Look
from evaluator.statistics.power import (
    POWER,
    detectable_difference,
    problems_needed,
    verdict_chances,
)

_MARGINS = (0.005, 0.01, 0.02, 0.03, 0.05)
_FLIP_RATES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)


def make_plan(
    margin: float,
    flip_rate: float,
    power: float = POWER,
    samples: int = 1,
    correlation: float = 0.0,
    looks: int = 1,
) -> tuple[TextTable, list[str]]:
    """How many problems it takes for equal arms to be called a match, and what that means.

    Margin, flip rate and power are proportions; the correlation is that of the differences of two
    samples of one problem. With several looks the numbers are those of the last one.
    """
    _check("margin", 0.001 <= margin < 1, "at least 0.001 and below 1", margin)
    _check("flip-rate", 0 <= flip_rate <= 1, "between 0 and 1", flip_rate)
    _check("power", 0 < power <= 0.999, "above 0 and at most 0.999", power)
    _check("samples", samples >= 1, "at least 1", samples)
    _check("correlation", 0 <= correlation <= 1, "between 0 and 1", correlation)
    _check("looks", 1 <= looks <= MOST_LOOKS, f"from 1 to {MOST_LOOKS}", looks)
    last = Look.of_equal(looks, looks)
    # evaluator/statistics/power.py has the formula
    per_sample = (1 + (samples - 1) * correlation) / samples
    margins = sorted({*_MARGINS, margin})
    rows = tuple(
        (
            f"{100 * rate:g} %",
            *(str(problems_needed(each, rate * per_sample, power, last)) for each in margins),
        )
        for rate in sorted({*_FLIP_RATES, flip_rate})
    )
    header = ("flips", *(f"δ = {100 * each:g}" for each in margins))
    title = f"Problems for a match with a chance of {100 * power:g} %, δ in points"
    problems = problems_needed(margin, flip_rate * per_sample, power, last)
    each = f" of {samples} samples, correlated by {correlation:g}" if samples > 1 else ""
    sentences = [
        f"{problems} problems{each}: arms that are equal and flip on {100 * flip_rate:g} % of the "
        f"samples are then called a match within ±{100 * margin:g} points in {100 * power:g} % of "
        "runs."
    ]
    seen = detectable_difference(problems, flip_rate * per_sample, margin, power, last)
    if seen is not None:
        sentences.append(
            f"The same run calls a true difference of {100 * seen:.1f} points `differ` in "
            f"{100 * power:g} % of runs."
        )
    if looks > 1:
        found = []
        for number in range(1, looks + 1):
            share = problems * number // looks
            look = Look.of_equal(looks, number)
            chance = verdict_chances(share, flip_rate * per_sample, 0.0, margin, look).match[0]
            found.append(f"{share} problems {100 * chance:.0f} %")
        sentences.append(
            f"Looked at {looks} times, such arms are called a match at {', '.join(found)} of runs. "
            "The run stops where every arm is decided."
        )
    return TextTable(title, header, rows), sentences


def _check(name: str, holds: bool, expected: str, found: float) -> None:
    if not holds:
        raise ConfigError(f"--{name}: expected {expected}, found {found}")
