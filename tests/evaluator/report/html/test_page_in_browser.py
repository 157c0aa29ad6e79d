"""The page in headless Chromium: no network, links that open, room on any screen."""

from dataclasses import replace

import pytest

from tests.evaluator.report.html.browser import CHROMIUM, Browser
from tests.evaluator.report.html.made_runs import EVIL, make_run

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian's package is chromium)"
)

# What sticks out of the window to the right, except inside of boxes that scroll by themselves.
STICKS_OUT = """[...document.querySelectorAll('body *')].filter(
    e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1
         && !e.closest('.scroll, pre, .statement table, svg')).map(e => e.outerHTML.slice(0, 90))"""
FILTER = "getComputedStyle(document.querySelector('svg.chart')).filter"
SHOWN = """[...document.querySelectorAll('article.problem')].filter(
    e => getComputedStyle(e).display !== 'none').map(e => e.id)"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with hostile texts, one of them a megabyte in one line."""

    def evil_text(g):
        line = "x" * 1_000_000 if g.problem == "P5" else EVIL
        return replace(g, text=f"```cpp\n#include <a>\n{line}\n// {g.arm}\n```")

    directory, _ = make_run(
        tmp_path_factory.mktemp("browser"),
        change_problem=lambda p: replace(p, statement=p.statement + EVIL, title=EVIL),
        change_verdict=lambda v: replace(v, detail=EVIL + "y" * 900),
        change_generation=evil_text,
    )
    return directory.path / "report.html"


def check_quiet(browser):
    """No message on the console, no script that ran, no request but for the page itself."""
    methods = {event["method"] for event in browser.events}
    assert not methods & {
        "Runtime.consoleAPICalled",
        "Runtime.exceptionThrown",
        "Log.entryAdded",
        "Page.javascriptDialogOpening",
    }
    requests = [e for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [e["params"]["request"]["url"][:8] for e in requests] == ["file:///"]
    assert browser.value("document.title") == "demo: report"


def test_the_page_is_quiet_and_a_flip_leads_to_its_problem(browser, page):
    browser.open(page, 1400)
    assert browser.value(SHOWN) == []
    browser.value("document.querySelector('a[href=\"#p3\"]').focus()")
    browser.key("Enter", 13, "\r")
    assert browser.value("location.hash") == "#p3"
    assert browser.value(SHOWN) == ["p3"]
    top = browser.value("document.getElementById('p3').getBoundingClientRect().top")
    assert 0 <= top < 700
    browser.value("document.querySelector('#p3 a[href=\"#r3\"]').click()")
    assert browser.value(SHOWN) == []
    check_quiet(browser)


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_sticks_out_of_the_window(browser, page, width):
    browser.open(page, width)
    for problem in ("p3", "p5"):
        browser.value(f"location.hash = '{problem}'")
        assert browser.value(SHOWN) == [problem]
        assert browser.value(STICKS_OUT) == []
        assert browser.value(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    check_quiet(browser)


def test_programs_are_side_by_side_where_there_is_room(browser, page):
    """And on a narrow screen one below the other, shared lines once."""
    place = (
        "(s => { const b = document.querySelector('#p3 tr.differs td.code.' + s)"
        ".getBoundingClientRect(); return [b.left, b.top]; })"
    )
    shared = "document.querySelector('#p3 tr.same td.right').getBoundingClientRect().width"
    browser.open(f"{page}#p3", 1400)
    (left, top), (right, same_top) = (browser.value(f"{place}('{s}')") for s in ("left", "right"))
    assert right > left + 400
    assert top == same_top
    assert browser.value(shared) > 0
    browser.open(f"{page}#p3", 400)
    (left, top), (right, below) = (browser.value(f"{place}('{s}')") for s in ("left", "right"))
    assert left == right
    assert below > top
    assert browser.value(shared) == 0


def test_colours_follow_the_readers_and_can_be_read(browser, page):
    colours = "(e => [getComputedStyle(e).color, getComputedStyle(document.body).backgroundColor])"
    for dark in (False, True):
        browser.open(page, 1400, dark=dark)
        assert ("invert" in browser.value(FILTER)) is dark  # charts are drawn for light paper
        for what in ("body", ".soft", "a", ".chips li"):
            pair = browser.value(f"{colours}(document.querySelector('{what}'))")
            assert contrast(*pair) >= 4.5, (dark, what, pair)
        cell = "getComputedStyle(document.querySelector('td.v.vWA:not(.even)'))"
        assert (
            contrast(browser.value(f"{cell}.color"), browser.value(f"{cell}.backgroundColor")) > 4.5
        )
    assert sum(rgb(pair[1])) < 0.2  # dark at last


def rgb(colour):
    """Relative luminance parts of ``rgb(r, g, b)``."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return [w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True)]


def contrast(one, two):
    """WCAG's contrast of two colours."""
    light, dark = sorted((sum(rgb(one)), sum(rgb(two))), reverse=True)
    return (light + 0.05) / (dark + 0.05)
