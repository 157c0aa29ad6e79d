"""The promises of docs/statistics.md, by enumeration and by drawing runs.

benchmarks/coverage.py holds the settings and the truths; its longer report stands in
results/statistics/coverage.md.
"""

from itertools import product

import numpy as np
import pytest

from benchmarks.coverage import (
    FLIP_RATES,
    LEANINGS,
    MECHANISMS,
    PROBLEMS,
    Setting,
    draw_rates,
    edge_settings,
    enumerate_tango,
)

SETTINGS = [
    Setting(problems, flips, leaning * flips)
    for flips, problems, leaning in product(FLIP_RATES, PROBLEMS, LEANINGS)
]


def test_coverage_of_the_90_percent_interval():
    """With ten flips or more; up to all flips one way, where a count is least like a normal."""
    enough = [s for s in SETTINGS if s.problems * s.flip_rate >= 10]
    assert len(enough) > 50
    for setting in enough:
        one_way = setting.difference == setting.flip_rate
        low = 0.86 if one_way else 0.88
        assert low <= enumerate_tango(setting).coverage <= 0.93, setting


def test_false_matches_at_the_margin():
    found = [enumerate_tango(s).false_match for s in SETTINGS]
    assert 0.049 < max(found) < 0.051


@pytest.mark.parametrize("margin", [0.02, 0.1])
def test_false_matches_along_the_edge(margin):
    """Over every number of problems from the first that can show δ on, not the grid's alone."""
    found = [enumerate_tango(s) for s in edge_settings(margin, max(1, int(0.06 / margin)))]
    assert max(r.false_match for r in found) < 0.051
    assert max(r.by_interval for r in found) > 0.065


RUNS = 6000


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_clusters_keep_the_level(mechanism):
    rng = np.random.default_rng(12)
    for problems, flips, difference in ((100, 0.1, 0.1), (200, 0.02, 0.02), (300, 0.05, 0.025)):
        setting = Setting(problems, flips, difference, 4, mechanism)
        found = draw_rates(setting, RUNS, rng)
        assert found.false_match <= 0.06 + 2.5 * (0.06 / RUNS) ** 0.5, setting
        assert found.coverage >= 0.86, setting
