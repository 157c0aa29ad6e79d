"""How many problems a run needs before it is made: ``tinylora-eval plan``."""

from dataclasses import dataclass

from evaluator.errors import ConfigError
from evaluator.report.text_table import TextTable
from evaluator.statistics.power import POWER, detectable_difference, problems_needed

_MARGINS = (0.005, 0.01, 0.02, 0.03, 0.05)
_FLIP_RATES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Plan:
    """The size of a run.

    Attributes:
        margin: δ of the equivalence test.
        flip_rate: Share of samples expected to flip between two equal arms.
        power: Chance of ``match`` that is asked for where the arms are equal.
        samples: n of each problem.
        correlation: ρ of the differences of two samples of one problem.
        problems: m that it takes.
        detectable: True difference that m problems call ``differ`` with the same chance.
        table: Problems for a few margins and flip rates, these among them.
    """

    margin: float
    flip_rate: float
    power: float
    samples: int
    correlation: float
    problems: int
    detectable: float | None
    table: TextTable


def make_plan(
    margin: float,
    flip_rate: float,
    power: float = POWER,
    samples: int = 1,
    correlation: float = 0.0,
) -> Plan:
    """Find how many problems it takes for equal arms to be called a match.

    Args:
        margin: δ, as a proportion; 0.02 is two points.
        flip_rate: As a proportion of the samples.
        power: Chance of the verdict.
        samples: Of each problem.
        correlation: Of the differences within a problem.

    Raises:
        ConfigError: A value that makes no sense.
    """
    _check("margin", 0.001 <= margin < 1, "at least 0.001 and below 1", margin)
    _check("flip-rate", 0 <= flip_rate <= 1, "between 0 and 1", flip_rate)
    _check("power", 0 < power <= 0.999, "above 0 and at most 0.999", power)
    _check("samples", samples >= 1, "at least 1", samples)
    _check("correlation", 0 <= correlation <= 1, "between 0 and 1", correlation)
    per_sample = (
        1 + (samples - 1) * correlation
    ) / samples  # evaluator/statistics/power.py has the formula
    problems = problems_needed(margin, flip_rate * per_sample, power)
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
    return Plan(
        margin=margin,
        flip_rate=flip_rate,
        power=power,
        samples=samples,
        correlation=correlation,
        problems=problems,
        detectable=detectable_difference(problems, flip_rate * per_sample, margin, power),
        table=TextTable(title, header, rows),
    )


def describe_plan(plan: Plan) -> tuple[str, ...]:
    """What the plan says, one sentence a finding."""
    each = ""
    if plan.samples > 1:
        each = f" of {plan.samples} samples, correlated by {plan.correlation:g}"
    sentences = [
        f"{plan.problems} problems{each}: arms that are equal and flip on "
        f"{100 * plan.flip_rate:g} % of the samples are then called a match within "
        f"±{100 * plan.margin:g} points in {100 * plan.power:g} % of runs."
    ]
    if plan.detectable is not None:
        sentences.append(
            f"The same run calls a true difference of {100 * plan.detectable:.1f} points "
            f"`differ` in {100 * plan.power:g} % of runs."
        )
    return tuple(sentences)


def _check(name: str, holds: bool, expected: str, found: float) -> None:
    if not holds:
        raise ConfigError(f"--{name}: expected {expected}, found {found}")
