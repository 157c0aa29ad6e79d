"""Charts: their words, and what a hostile name can do to them."""

import re
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from evaluator.report.html.charts import make_charts
from evaluator.report.summary import summarize
from evaluator.report.tables import percent, points, shown_verdict
from evaluator.store.snapshot import LayerResidual
from evaluator.tokens.summary import ArmTokens, TokenLevel
from tests.evaluator.report.made_up import REPEATED, facts, records
from tinylora.models.token_divergence import Kept, KLSummary

SVG = "{http://www.w3.org/2000/svg}"
KL = KLSummary(9, 1.0, 1.0, 1.0, 1.0)


def charts_of(summary, layers=None):
    return {chart.name: chart for chart in make_charts(summary, layers or {})}


def texts(chart):
    return [element.text for element in ElementTree.fromstring(chart.svg).iter(f"{SVG}text")]


def with_retention(summary, **kept):
    arms = tuple(
        ArmTokens(arm, False, KL, 1.0, None if share is None else Kept(share, share, True), None)
        for arm, share in kept.items()
    )
    level = TokenLevel("restored", "base", 9, 0.0, 1.0, 0.0, "float32", arms, (), ())
    return replace(summary, token_level=level)


@pytest.fixture(scope="module")
def summary():
    run = facts()
    return with_retention(summarize(run, records(run)), nf4=-7.0, gone=0.9, base=None)


@pytest.fixture(scope="module")
def charts(summary):
    layers = {"nf4": [LayerResidual(0, 0.5), LayerResidual(1, 0.0)]}
    return charts_of(summary, layers)


def test_a_repeat_of_the_reference_is_no_match():
    run = facts(kinds=REPEATED)
    summary = summarize(run, records(run))
    shown = texts(charts_of(summary)["differences"])
    verdicts = {pair.arm: shown_verdict(pair, summary) for pair in summary.comparisons}
    assert verdicts["again"].startswith("A/A: ") and verdicts["base"] == "control"
    assert all(any(text.endswith(f" {word}") for text in shown) for word in verdicts.values())


def test_labels_are_the_summarys_numbers(summary, charts):
    for arm in summary.arms:
        low, high = 100 * arm.interval.low, 100 * arm.interval.high
        assert f"{percent(arm.pass_rate)} [{low:.1f} – {high:.1f}]" in texts(charts["pass_rates"])
    for pair in summary.comparisons:
        start = f"{points(pair.difference)} (+{pair.gained} −{pair.lost}) "
        assert any(text.startswith(start) for text in texts(charts["differences"]))
    legend = [text for text in texts(charts["size"]) if " at " in text]
    assert legend == ["nf4  -7.000 at 1.50 MB", "gone  0.900 at 1.50 MB"]


@pytest.mark.parametrize(
    "name", ["_题目$x_1$", "</text><script>x</script>", 'a"b\0\u202e', "x" * 99]
)
def test_any_name_stays_text(name):
    run = facts(kinds={"restored": "restored", name: "merged"})
    summary = with_retention(summarize(run, records(run)), **{name: 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charts = charts_of(summary, {name: [LayerResidual(0, 0.5)]})
    assert len(charts) == 4
    shown = name.replace("\0", "␀").replace("\u202e", "⟨U+202E⟩")
    for chart in charts.values():
        root = ElementTree.fromstring(chart.svg)
        assert not [e for e in root.iter() if e.tag.endswith("script")]
        assert any(shown[:27] in text for text in texts(chart))
        assert "sans-serif" in chart.svg


def test_equal_numbers_give_equal_bytes_and_no_two_elements_share_an_id(summary, charts):
    again = charts_of(summary)
    assert again["pass_rates"].svg == charts["pass_rates"].svg
    assert "<metadata" not in charts["size"].svg
    ids = [i for chart in charts.values() for i in re.findall(r' id="([^"]+)"', chart.svg)]
    assert len(ids) == len(set(ids))
    for chart in charts.values():
        for target in re.findall(r'(?:href="|url\()#([^")]+)', chart.svg):
            assert target in ids
        assert f'role="img" aria-label="{chart.title}"' in chart.svg
