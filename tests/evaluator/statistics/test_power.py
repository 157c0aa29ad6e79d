"""Chances of a verdict against enumeration and drawn runs; how many problems are needed."""

import re
from fractions import Fraction
from functools import partial
from math import comb

import numpy as np
import pytest
from scipy.stats import multinomial, norm
from typer.testing import CliRunner

from benchmarks.coverage import Setting, draw
from evaluator.cli import app
from evaluator.config.run_config import MOST_LOOKS
from evaluator.errors import ConfigError
from evaluator.plan import make_plan
from evaluator.statistics.compare import match_p
from evaluator.statistics.few_flips import (
    chance_of_so_few,
    fewest_problems,
    most_net_flips,
    shown_margin,
)
from evaluator.statistics.looks import Look
from evaluator.statistics.power import (
    detectable_difference,
    problems_needed,
    provable_margin,
    verdict_chances,
)
from evaluator.statistics.score_interval import mean_statistic
from evaluator.statistics.tango import score_statistic


@pytest.mark.parametrize(
    ("problems", "flips", "difference", "margin"),
    [
        (30, 0.1, 0.0, 0.15),
        (30, 0.02, 0.0, 0.09),
        (40, 0.1, 0.05, 0.17),
        (30, 0.3, 0.3, 0.05),
        (25, 0.25, -0.15, 0.4),
    ],
)
def test_chances_are_those_of_all_outcomes(problems, flips, difference, margin):
    shares = [(flips + difference) / 2, (flips - difference) / 2, 1 - flips]
    match = differ = 0.0
    for b in range(problems + 1):
        for c in range(problems + 1 - b):
            chance = multinomial.pmf([b, c, problems - b - c], problems, shares)
            statistic = partial(score_statistic, b=b, c=c, n=problems)
            if match_p(statistic, abs(b - c), problems, margin) <= 0.05:
                match += chance
            elif abs(statistic(0.0)) > norm.isf(0.025):
                differ += chance
    found = verdict_chances(problems, flips, difference, margin)
    assert found.match[0] == pytest.approx(match, abs=1e-4)
    assert found.differ[0] == pytest.approx(differ, abs=1e-4)


@pytest.mark.parametrize(("margin", "problems"), [(0.02, 149), (0.01, 299), (0.005, 598)])
def test_problems_without_flips(margin, problems):
    assert fewest_problems(margin) == problems
    assert shown_margin(problems) <= margin < shown_margin(problems - 1)
    assert {problems_needed(margin, 0.0, power=power) for power in (0.8, 0.99)} == {problems}


@pytest.mark.parametrize(
    ("margin", "flips"), [(0.02, 0.02), (0.05, 0.01), (0.05, 0.1), (0.99, 1.0)]
)
def test_problems_needed_is_the_number_from_which_on_it_is_enough(margin, flips):
    needed = problems_needed(margin, flips)
    chances = verdict_chances(np.arange(needed - 1, 3 * needed), flips, 0.0, margin).match
    assert chances[0] < 0.8
    assert (chances[1:] >= 0.8).all()


def test_few_net_flips_are_those_that_a_loss_of_the_margin_rarely_shows():
    """Against the sum of the binomial, in exact fractions."""
    margin, m = Fraction(3, 100), 281
    chances = [comb(m, k) * margin**k * (1 - margin) ** (m - k) for k in range(9)]
    expected = [sum(chances[: k + 1]) <= Fraction(1, 20) for k in range(9)]
    assert (chance_of_so_few(np.arange(9), m, 0.03) <= 0.05).tolist() == expected
    assert most_net_flips(np.array([281.0]), np.array([0.03])) == sum(expected) - 1
    assert chance_of_so_few(3.9, m, 0.03) == chance_of_so_few(3, m, 0.03)
    assert chance_of_so_few(5, 5, 0.9) == 1


def test_margins_and_differences_undo_the_chances():
    margin = provable_margin(400, 0.03)
    assert verdict_chances(400, 0.03, 0.0, margin).match[0] == pytest.approx(0.8, abs=0.05)
    assert verdict_chances(400, 0.03, 0.0, margin - 1e-3).match[0] < 0.8
    seen = detectable_difference(400, 0.03, 0.01)
    assert verdict_chances(400, 0.03, seen, 0.01).differ[0] == pytest.approx(0.8, abs=1e-3)
    assert provable_margin(400, 0.0) == pytest.approx(shown_margin(400), abs=1e-6)
    assert detectable_difference(3, 0.0, 0.01) is None
    assert provable_margin(2, 1.0) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("flips", [0.0, 0.02, 1.0])
def test_a_look_whose_level_rounds_to_0_shows_nothing(flips):
    look = Look((1e-6, 1.0), 1)
    chances = verdict_chances(np.array([0, 1, 5, 500]), flips, flips, 0.05, look)
    assert chances.match.tolist() == chances.differ.tolist() == [0.0] * 4
    assert provable_margin(5, flips, look=look) is None
    assert detectable_difference(5, flips, 0.05, look=look) is None
    assert shown_margin(5, look.level(0.05)) == 1


@pytest.mark.parametrize(
    ("mechanism", "correlation", "most"),
    # Whole problems flip in the model, so it asks for more than it takes where samples flip alone.
    [("independent", 0.0, 0.99), ("correlated 0.3", 0.3, 0.9), ("copies", 1.0, 0.84)],
)
def test_planned_runs_of_several_samples_match_as_often_as_planned(mechanism, correlation, most):
    needed = problems_needed(0.03, 0.05 * (1 + 3 * correlation) / 4)
    setting = Setting(needed, 0.05, 0.0, 4, mechanism)
    values, counts = draw(setting, 3000, np.random.default_rng(8))
    high, low = (mean_statistic(np.array([x]), values, counts, (-1, 1)) for x in (0.03, -0.03))
    z = norm.isf(0.05)
    assert 0.78 <= np.mean((high < -z) & (low > z)) <= most


def test_plan_of_the_command():
    options = ["--margin", "0.05", "--flip-rate", "0.02", "--samples", "4", "--correlation", "1"]
    result = CliRunner().invoke(app, ["plan", *options])
    assert result.exit_code == 0, result.output
    needed = problems_needed(0.05, 0.02)
    assert f"{needed} problems of 4 samples" in result.output
    rows = [line.split("│")[1:-1] for line in result.output.splitlines() if "│" in line]
    assert [cell.strip() for cell in rows[0]] == ["0 %", "598", "299", "149", "99", "59"]
    assert rows[3][0].strip() == "2 %"
    assert rows[3][-1].strip() == str(needed)
    refused = CliRunner().invoke(app, ["plan", "--margin", "2", "--flip-rate", "0.02"])
    assert refused.exit_code == 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("looks", [2, 3, 7, MOST_LOOKS])
def test_a_plan_says_what_each_look_shows(looks, monkeypatch):
    monkeypatch.setattr("evaluator.plan._MARGINS", ())  # the table is not what is looked at
    monkeypatch.setattr("evaluator.plan._FLIP_RATES", ())
    _, sentences = make_plan(0.02, 0.02, looks=looks)
    shares = re.findall(r"\d+ problems (\d+) %", sentences[-1])
    chances = [int(share) for share in shares]
    assert len(chances) == looks and chances == sorted(chances)
    assert chances[0] == 0 and chances[-1] >= 80


@pytest.mark.parametrize(
    "values",
    [(0.0, 0.1), (1.0, 0.1), (0.02, 1.1), (0.02, 0.1, 1.0), (0.02, 0.1, 0.8, 0)],
)
def test_plans_that_make_no_sense_are_refused(values):
    with pytest.raises(ConfigError, match="expected"):
        make_plan(*values)
