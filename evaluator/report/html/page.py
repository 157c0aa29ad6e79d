"""The report of a run as one page that needs no network: ``report.html``, and its charts as files.

The page has no script, and its Content-Security-Policy allows none; the stylesheet shows the one
problem that the address names. Its size is bounded.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evaluator.report.html.charts import make_charts
from evaluator.report.html.diff import PROGRAM_CHARACTERS, PROGRAM_LINES
from evaluator.report.html.flips import FlipMatrix, flip_details, flip_matrix
from evaluator.report.html.statement import STATEMENT_CHARACTERS
from evaluator.report.html.text import shortened, visible
from evaluator.report.provenance import distinct_sessions
from evaluator.report.summary import RunSummary
from evaluator.report.tables import verdict_text
from evaluator.report.text_table import TextTable
from evaluator.store.records import GenerationRecord, Key, VerdictRecord
from evaluator.store.run_directory import RunDirectory
from evaluator.store.snapshot import read_layers, read_problems
from tinylora.files.whole_file import replace_file

DETAILS_BYTES = 12_000_000
AGREED_ROWS = 3_000
_MESSAGE_CHARACTERS = 2_000


def write_page(
    directory: RunDirectory,
    summary: RunSummary,
    verdicts: Mapping[Key, VerdictRecord],
    generations: Mapping[Key, GenerationRecord],
    tables: Sequence[TextTable],
    sentences: Sequence[str],
) -> None:
    """Write ``report.html`` and ``plots/*.svg`` of a finished run."""
    charts = make_charts(summary, read_layers(directory))
    directory.plots.mkdir(exist_ok=True)
    for chart in charts:
        replace_file(directory.plots / f"{chart.name}.svg", chart.svg.encode())
    problems = read_problems(directory)
    matrix = flip_matrix(summary, verdicts, problems)
    flips = [*matrix.flipped, *matrix.control]
    details = list(_rendered(matrix, flip_details(matrix, verdicts, generations, problems)))
    page = _templates().get_template("report.html")
    text = page.render(
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
    replace_file(directory.page, text.encode())


def _rendered(matrix: FlipMatrix, details: Iterator[dict[str, Any]]) -> Iterator[Markup]:
    """Problems as HTML, as many as fit into the bound of the page."""
    template = _templates().get_template("problem.html")
    used = 0
    for detail in details:
        article = template.render(matrix=matrix, **detail)
        used += len(article.encode())
        if used > DETAILS_BYTES:
            return
        yield Markup(article)  # noqa: S704 - a template's own result


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
    environment.globals["verdict_text"] = verdict_text
    environment.filters["shortened"] = lambda text: shortened(text, _MESSAGE_CHARACTERS)
    return environment


def _spelled_out(value: object) -> object:
    """Every text that a template writes goes through here, and is then escaped."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
