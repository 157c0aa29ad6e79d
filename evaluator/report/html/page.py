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
from evaluator.report.html.flips import FlipMatrix, flip_details, flip_matrix
from evaluator.report.html.text import shortened, visible
from evaluator.report.sentences import arm_lines
from evaluator.report.summary import RunSummary
from evaluator.report.text_table import TextTable
from evaluator.store.records import GenerationRecord, Key, VerdictRecord
from evaluator.store.run_directory import RunDirectory
from evaluator.store.snapshot import read_layers, read_problems
from tinylora.files.whole_file import replace_file

DETAILS_BYTES = 12_000_000
AGREED_ROWS = 3_000
_MESSAGE_CHARACTERS = 2_000
DATA = (
    *("tables/arms.csv", "tables/groups.csv", "problems.parquet", "comparison.json"),
    *("verdicts.jsonl", "generations.jsonl", "run.json", "environment.json"),
)
COLUMNS = {
    "pass@1": "share of completions whose every test is AC; pass@k: of problems of which one of k "
    "completions is such a one",
    "compiles, no code": "shares of completions that gave a program that compiles, or no program",
    "score": "mean points, 0 to 100",
    "gained / lost": "completions that this arm passes and the reference does not, and the reverse",
    "difference": "of pass@1 from the reference, in points",
    "p": "how often a difference as large comes up between equal arms",
    "verdict": "match: the 90 % interval of the difference is inside ±δ and an exact test agrees; "
    "alone: not after the correction for several arms; uninformative: the base does not differ "
    "either",
    "AC": "passes all tests; WA wrong answer, PC partial points, RE ended by signal or exit code, "
    "CE no program that compiles, TLE, MLE, OLE over a limit of time, memory or output",
    "capture": "share of the delta, along its own direction, that is in the weights",
    "residual": "what is wrong or missing, relative to the delta: 0 is perfect, 1 is a lost one",
    "cosine": "of the angle between the exported and the trained delta",
    "δ": "the margin; without flips, at 80 %: the smallest that this run could have shown",
}


def write_page(
    directory: RunDirectory,
    summary: RunSummary,
    verdicts: Mapping[Key, VerdictRecord],
    generations: Mapping[Key, GenerationRecord],
    tables: Sequence[TextTable],
    sentences: Sequence[str],
    made_by: Sequence[str],
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
        arm_lines=arm_lines(summary),
        columns=COLUMNS,
        data=DATA,
        made_by=made_by,
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
    environment.filters["shortened"] = lambda text: shortened(text, _MESSAGE_CHARACTERS)
    return environment


def _spelled_out(value: object) -> object:
    """Every text that a template writes goes through here, and is then escaped."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
