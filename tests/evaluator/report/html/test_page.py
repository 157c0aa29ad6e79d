"""The page of a run: what stands in it, that it stands alone, and that it is bounded."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from evaluator.report.html import page as html_page
from evaluator.report.results import write_results
from tests.evaluator.report.html.made_runs import EVIL, KINDS, PROBLEMS, make_run, passes
from tests.evaluator.report.html.page_reader import Page

NAMED = EVIL.replace("\ud800", "").replace("\udcff", "")  # ids and commands are written as UTF-8
INERT = "</script><script>document.title='owned'</script><img src=x onerror="


def page_of(directory):
    content = (directory.path / "report.html").read_bytes()
    text = content.decode("utf-8")  # strict: lone surrogates would not have been written
    assert "\0" not in text
    return Page(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(made):
    return page_of(made[0])


def matrices(page):
    """Tables of flips: of the problems on which arms disagree, and of the others."""
    return [table for table in page.tables if table[0][0] == "problem"]


def check_closed_in_itself(page):
    """No script, nothing fetched; links lead to elements of the page and to the run's data."""
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "link", "base", "form"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "action"), (tag, name)
        if name in ("href", "xlink:href"):
            assert value in html_page.DATA or (value[0] == "#" and value[1:] in page.ids), value
        elif name not in ("xmlns", "xmlns:xlink", "title", "lang", "aria-label"):  # words or names
            assert not re.search(r"https?:|javascript:|url\([^#]", value or ""), (tag, name)
    assert len(set(page.ids)) == len(page.ids)
    assert page.links()
    policy = dict((n, v) for t, n, v in page.attributes if t == "meta")
    assert policy["http-equiv"] == "Content-Security-Policy"
    metas = [v for t, n, v in page.attributes if t == "meta" and n == "content"]
    assert any(v.startswith("default-src 'none'; style-src 'unsafe-inline'") for v in metas)


def test_tables_sentences_and_charts_are_those_of_the_results(made, page):
    check_closed_in_itself(page)
    shown = page.tables[: len(made[1].tables)]
    for table, own in zip(shown, made[1].tables, strict=True):
        assert table == [list(own.header), *map(list, own.rows)]
    for sentence in made[1].sentences:
        assert sentence in page.texts[""]
    text, names = made[0].page.read_text(), ("pass_rates", "differences", "residual_by_layer")
    plots = {path.name: path.read_text() for path in made[0].plots.iterdir()}
    assert plots.keys() == {f"{name}.svg" for name in names}
    assert all(svg in text and ElementTree.fromstring(svg) is not None for svg in plots.values())


def test_the_matrix_has_every_problem_once_and_flips_lead_to_them(page):
    matrix, agreed = matrices(page)
    listed = (row for row in (*matrix[1:], *agreed[1:]) if len(row) > 1)
    rows = {row[0].partition("Title")[0]: row[1:] for row in listed}
    assert sorted(rows) == sorted(f"P{i}" for i in range(PROBLEMS))
    for i in range(PROBLEMS):
        for cell, arm in zip(rows[f"P{i}"], KINDS, strict=True):
            ours, reference = passes(arm, i), passes("restored", i)
            sign = "▲" if ours > reference else "▼" if ours < reference else ""
            assert cell == ("AC" if ours else "WA") + sign
    flipped = {i for i in range(PROBLEMS) for arm in KINDS if passes(arm, i) != (i < 20)}
    links = {link for link in page.links() if re.fullmatch(r"#p\d+", link)}
    assert links == {f"#p{i}" for i in flipped}
    assert matrix[1] == ["An arm flips against restored: 2"]
    assert [row[0][:3] for row in matrix[2:4]] == ["P3T", "P25"]


def test_a_problem_shows_statement_programs_and_the_first_differing_test(page):
    text = page.texts["p3"]
    assert "给定 ai≤109，求和。" in text
    assert "restored and base, nf4" in text  # equal programs are shown once
    told = ("First test that tells them apart: t2", "line 1: expected '7', found '8'")
    assert all(part in text for part in (*told, "t2 in", "t2 out"))
    diff = next(t for t in page.tables if ["1", "#include <cstdio>"] * 2 in t)
    assert ["3", "  puts(1);", "3", "  puts(0);"] in diff


def test_with_samples_the_first_sample_that_flips_is_shown(tmp_path):
    def second_differs(record):
        if record.arm == "bf16" and record.problem == "P7" and record.sample == 1:
            return replace(record, verdict="CE", code_sha256=None, reason="no_code", tests=())
        return record

    page = page_of(make_run(tmp_path, samples=3, change_verdict=second_differs)[0])
    for part in ("restored and bf16, sample 2 of 3", "bf16 wrote no program", "no_code"):
        assert part in page.texts["p7"]
    cells = next(row for row in matrices(page)[0] if row[0] == "P7Title 7")
    assert cells[1:] == ["0/3▼", "3/3", "3/3", "2/3▼"]


def test_hostile_texts_stay_texts(tmp_path):
    def evil_problem(p):
        statement = f"{EVIL}\n\n```{EVIL[:40]}\n{EVIL}\n```\n# {EVIL}\n"
        tests = tuple(
            replace(t, name=t.name + EVIL, input=EVIL.replace("\ud800", ""), output="\udcff<blink>")
            for t in p.tests
        )
        named = {"id": p.id + NAMED, "title": EVIL, "language": NAMED, "family": NAMED}
        return replace(p, **named, statement=statement, tests=tests)

    def evil_verdict(v):
        tests = tuple(replace(t, name=t.name + EVIL, detail=t.detail + EVIL) for t in v.tests)
        wrong = "CE" if v.verdict == "WA" and v.problem == "P5" else v.verdict
        said = dict.fromkeys(("compile_message", "detail", "reason"), EVIL)
        return replace(v, verdict=wrong, tests=tests, **said)

    def evil_text(g):
        return replace(g, text=f"```cpp\n#include <a>\n{EVIL}\n// {g.arm}\n{EVIL}\n```")

    directory, _ = make_run(
        tmp_path,
        change_problem=evil_problem,
        change_verdict=evil_verdict,
        change_generation=evil_text,
        command=f"run {NAMED}",
    )
    page = page_of(directory)
    check_closed_in_itself(page)
    assert "blink" not in page.tags
    texts = page.texts["p5"]
    assert texts.count(INERT) > 12
    for spelled in ("␀", "⟨U+D800⟩", "⟨U+DCFF⟩", "⟨U+202E⟩", "{{ 7*7 }}", "[a](javascript:"):
        assert spelled in texts
    assert INERT in page.texts["made"]


def test_a_megabyte_is_shortened_with_a_word(tmp_path):
    def long_text(g):
        if g.problem == "P3":
            line = "x" * 1_000_000 if g.arm == "restored" else "int a;\n" * 150_000
            return replace(g, text=f"```cpp\n#include <a>\n{line}\n```")
        return g

    directory, _ = make_run(
        tmp_path,
        change_generation=long_text,
        change_problem=lambda p: replace(p, statement="长" * 400_000),
    )
    page = page_of(directory)
    assert "[… 992,014 more characters, left out here]" in page.texts["p3"]
    assert "[… 92,000 more characters, left out here]" in page.texts["p3"]
    size = (directory.path / "report.html").stat().st_size
    assert size < 1_500_000


def test_details_end_where_the_page_would_be_too_large(made, tmp_path, monkeypatch):
    monkeypatch.setattr(html_page, "DETAILS_BYTES", 9_000)
    monkeypatch.setattr(html_page, "AGREED_ROWS", 5)
    directory, _ = make_run(tmp_path)
    page = page_of(directory)
    check_closed_in_itself(page)
    shown = [identity for identity in page.ids if re.fullmatch(r"p\d+", identity)]
    assert 1 <= len(shown) < 11
    assert f"Details of the first {len(shown)} are in this page" in page.texts["flips"]
    assert "The first 5 of them." in page.texts["flips"]
    assert "P39" not in page.texts["flips"]


def test_a_run_without_kept_sources_has_a_page_without_them(tmp_path):
    directory, _ = make_run(tmp_path)
    (directory.path / "statements.jsonl").unlink()
    (directory.path / "fidelity.json").unlink()
    write_results(directory)
    page = page_of(directory)
    assert "The statement was not kept with this run." in page.texts["p3"]
    assert "chart-residual_by_layer" not in page.ids
    assert "line 1: expected '7', found '8'" in page.texts["p3"]


@pytest.mark.parametrize("kinds", [{"a": "merged"}, {"restored": "restored", "nf4": "merged"}])
def test_runs_without_reference_or_control(tmp_path, kinds):
    directory, _ = make_run(tmp_path, kinds=kinds)
    page = page_of(directory)
    check_closed_in_itself(page)
    assert ("chart-differences" in page.ids) == ("restored" in kinds)
    assert ("p3" in page.ids) == ("restored" in kinds)
