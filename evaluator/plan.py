"""How many problems a run needs before it is made: ``tinylora-eval plan``."""

from evaluator.errors import ConfigError
from evaluator.report.text_table import TextTable
from evaluator.statistics.power import POWER, detectable_difference, problems_needed

_MARGINS = (0.005, 0.01, 0.02, 0.03, 0.05)
_FLIP_RATES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)


def make_plan(
    margin: float,
    flip_rate: float,
    power: float = POWER,
    samples: int = 1,
    correlation: float = 0.0,
) -> tuple[TextTable, list[str]]:
    """How many problems it takes for equal arms to be called a match, and what that means.

    Margin, flip rate and power are proportions; the correlation is that of the differences of two
    samples of one problem.
    """
    _check("margin", 0.001 <= margin < 1, "at least 0.001 and below 1", margin)
    _check("flip-rate", 0 <= flip_rate <= 1, "between 0 and 1", flip_rate)
    _check("power", 0 < power <= 0.999, "above 0 and at most 0.999", power)
    _check("samples", samples >= 1, "at least 1", samples)
    _check("correlation", 0 <= correlation <= 1, "between 0 and 1", correlation)
    # evaluator/statistics/power.py has the formula
    per_sample = (1 + (samples - 1) * correlation) / samples
    margins = sorted({*_MARGINS, margin})
    rows = tuple(
        (
            f"{100 * rate:g} %",
            *(str(problems_needed(each, rate * per_sample, power)) for each in margins),
        )
        for rate in sorted({*_FLIP_RATES, flip_rate})
    )
    header = ("flips", *(f"δ = {100 * each:g}" for each in margins))
    title = f"Problems for a match with a chance of {100 * power:g} %, δ in points"
    problems = problems_needed(margin, flip_rate * per_sample, power)
    each = f" of {samples} samples, correlated by {correlation:g}" if samples > 1 else ""
    sentences = [
        f"{problems} problems{each}: arms that are equal and flip on {100 * flip_rate:g} % of the "
        f"samples are then called a match within ±{100 * margin:g} points in {100 * power:g} % of "
        "runs."
    ]
    seen = detectable_difference(problems, flip_rate * per_sample, margin, power)
    if seen is not None:
        sentences.append(
            f"The same run calls a true difference of {100 * seen:.1f} points `differ` in "
            f"{100 * power:g} % of runs."
        )
    return TextTable(title, header, rows), sentences


def _check(name: str, holds: bool, expected: str, found: float) -> None:
    if not holds:
        raise ConfigError(f"--{name}: expected {expected}, found {found}")
