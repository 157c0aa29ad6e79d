"""The promises of docs/statistics.md, by enumeration and by drawing runs.

benchmarks/coverage.py holds the settings, the truths and the rivals; its longer report stands in
results/statistics/coverage.md.
"""

import numpy as np
import pytest

from benchmarks.coverage import (
    MECHANISMS,
    Setting,
    design_effect,
    draw,
    enumerate_tango,
    rates,
    score,
    settings,
    t_interval,
)


def test_coverage_of_the_90_percent_interval():
    """With ten flips or more; up to all flips one way, where a count is least like a normal."""
    enough = [s for s in settings() if s.problems * s.flip_rate >= 10]
    assert len(enough) > 50
    for setting in enough:
        one_way = setting.difference == setting.flip_rate
        low = 0.86 if one_way else 0.88
        assert low <= enumerate_tango(setting).coverage <= 0.93, setting


def test_few_flips_cover_more_rather_than_less():
    few = [s for s in settings() if s.problems * s.flip_rate < 10]
    assert min(enumerate_tango(s).coverage for s in few) > 0.855


def test_false_matches_at_the_margin():
    found = [enumerate_tango(s).false_match for s in settings()]
    assert max(found) < 0.0605


@pytest.mark.parametrize(("problems", "margin"), [(52, 0.05), (133, 0.02), (539, 0.005)])
def test_the_least_favourable_case_is_known(problems, margin):
    """No flip seen in the fewest problems that can show δ, though every flip would be a loss."""
    found = enumerate_tango(Setting(problems, margin, margin)).false_match
    assert found == pytest.approx((1 - margin) ** problems, abs=1e-6)
    assert 0.06 < found < 0.07


RUNS = 6000


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_clusters_keep_the_level(mechanism):
    rng = np.random.default_rng(12)
    weights = np.full(RUNS, 1 / RUNS)
    for problems, flips, difference in ((100, 0.1, 0.1), (200, 0.02, 0.02), (300, 0.05, 0.025)):
        setting = Setting(problems, flips, difference, 4, mechanism)
        found = rates(score(*draw(setting, RUNS, rng)), difference, weights)
        assert found.false_match <= 0.06 + 2.5 * (0.06 / RUNS) ** 0.5, setting
        assert found.coverage >= 0.86, setting


def test_rivals_do_not_keep_it():
    """Why neither a design effect nor Student's t is used."""
    rng, weights = np.random.default_rng(13), np.full(RUNS, 1 / RUNS)
    setting = Setting(200, 0.02, 0.02, 8, "correlated 0.3")
    data = draw(setting, RUNS, rng)
    assert rates(design_effect(*data), 0.02, weights).false_match > 0.12
    assert rates(t_interval(*data), 0.02, weights).false_match > 0.08
    assert rates(score(*data), 0.02, weights).false_match < 0.06
