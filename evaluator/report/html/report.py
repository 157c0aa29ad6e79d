"""The report of a run as one page that needs no network: ``report.html``, and its charts as files.

The page has no script, and its Content-Security-Policy allows none, so a hostile statement or
program stays text even if an escape were forgotten. What looks like unfolding is a link to an
anchor: the stylesheet shows the one problem that the address names.

Its size is bounded: only problems on which arms disagree get details, as many as fit into
``DETAILS_BYTES``; of the others ``AGREED_ROWS`` are listed; texts are shortened with a word.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evaluator.report.html.charts import make_charts
from evaluator.report.html.diff import PROGRAM_CHARACTERS, PROGRAM_LINES
from evaluator.report.html.flips import FlipDetail, FlipMatrix, flip_details, flip_matrix
from evaluator.report.html.marks import Chart, chart_svg
from evaluator.report.html.sources import read_layers, read_problems
from evaluator.report.html.statement import STATEMENT_CHARACTERS
from evaluator.report.html.text import visible
from evaluator.report.made_by import distinct_sessions
from evaluator.report.summary import RunSummary
from evaluator.report.tables import TextTable, verdict_text
from evaluator.store.records import GenerationRecord, Key, VerdictRecord
from evaluator.store.run_directory import RunDirectory
from tinylora.files.whole_file import replace_file

DETAILS_BYTES = 12_000_000
AGREED_ROWS = 3_000
_CHART_WIDTH = "640"  # pixels, of a file


def write_page(
    directory: RunDirectory,
    summary: RunSummary,
    verdicts: Mapping[Key, VerdictRecord],
    generations: Mapping[Key, GenerationRecord],
    tables: Sequence[TextTable],
    sentences: Sequence[str],
) -> None:
    """Write ``report.html`` and ``plots/*.svg`` of a finished run.

    Args:
        directory: Of the run.
        summary: Its numbers.
        verdicts: All verdicts.
        generations: All completions.
        tables: Shown as they are.
        sentences: What the numbers mean; the page begins with them.

    Raises:
        RecordsError: A file that the page is made from is damaged.
    """
    folder = directory.path
    charts = make_charts(summary, read_layers(folder))
    _write_plots(directory, charts)
    problems = read_problems(folder)
    matrix = flip_matrix(summary, verdicts, problems)
    flips = [*matrix.flipped, *matrix.control]
    details = list(_rendered(matrix, flip_details(matrix, verdicts, generations, problems)))
    page = (
        _templates()
        .get_template("report.html")
        .render(
            summary=summary,
            sentences=sentences,
            charts=charts,
            tables=tables,
            matrix=matrix,
            flips=flips,
            agreed=matrix.agreed[:AGREED_ROWS],
            details=details,
            linked={row.number for row in flips[: len(details)]},
            sessions=distinct_sessions(directory.sessions()),
            bounds={
                "statement": STATEMENT_CHARACTERS,
                "program": PROGRAM_CHARACTERS,
                "lines": PROGRAM_LINES,
                "details": DETAILS_BYTES,
            },
        )
    )
    replace_file(folder / "report.html", page.encode())


def _rendered(matrix: FlipMatrix, details: Iterator[FlipDetail]) -> Iterator[Markup]:
    """Problems as HTML, as many as fit into the bound of the page."""
    template = _templates().get_template("problem.html")
    used = 0
    for detail in details:
        article = template.render(matrix=matrix, detail=detail)
        used += len(article.encode())
        if used > DETAILS_BYTES:
            return
        yield Markup(article)  # noqa: S704 - a template's own result


def _write_plots(directory: RunDirectory, charts: Sequence[Chart]) -> None:
    directory.plots.mkdir(exist_ok=True)
    style = Markup("<style>{}</style>").format(_stylesheet("charts.css"))
    for chart in charts:
        picture = chart_svg(chart, style, _CHART_WIDTH)
        replace_file(directory.plots / f"{chart.name}.svg", picture.encode())


def _stylesheet(name: str) -> Markup:
    return Markup(_templates().get_template(name).render())  # noqa: S704 - our own file


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("evaluator.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_spelled_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        chart_svg=chart_svg, stylesheet=_stylesheet, verdict_text=verdict_text
    )
    return environment


def _spelled_out(value: object) -> object:
    """Every text that a template writes goes through here, and is then escaped."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
