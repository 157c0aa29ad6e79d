"""Imports a source into the own form of a suite, whole or not at all.

Beside ``suite.json`` and ``problems.jsonl`` there are ``skipped.jsonl``, what was left out and why,
and ``notes.jsonl``, what was assumed and which files were not used.
"""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from evaluator.errors import SuiteError, SuiteOutputError
from evaluator.suites.importers.draft import Note, Skipped
from evaluator.suites.importers.drafts_to_problems import DefaultLimits
from evaluator.suites.importers.forms import detect_form, read_source
from evaluator.suites.importers.luogu_archives import read_statements
from evaluator.suites.problem import Problem
from evaluator.suites.suite import (
    SUITE_FORMAT,
    digest_line,
    no_problems,
    problem_line,
    read_manifest,
)
from tinylora.files.whole_file import replace_directory, replace_file

_REASONS_SHOWN = 3
_EXAMPLES = 10


@dataclass
class ImportReport:
    """What an import did; the counters count by kind.

    Attributes:
        without_statement: Problems that no model can be asked.
        tests_left_out: Tests of imported problems that were left out.
        notes: What was assumed, and files that were not used.
        examples: A few of what was left out or noted, for people.
    """

    path: Path
    form: str
    digest: str = ""
    problems: int = 0
    tests: int = 0
    without_statement: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    tests_left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


def import_suite(
    source: Path,
    out: Path,
    *,
    form: str | None = None,
    name: str | None = None,
    limits: DefaultLimits | None = None,
    statements: Path | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Read a source, a file or directory of one of ``importers``' forms, and write it as a suite.

    The form is detected and the name the source's own, unless given; ``limits`` are of problems
    that bring none; ``statements``, a file or folder, go with test data. Only with ``overwrite`` is
    a suite replaced. SuiteError if the source cannot be used, or holds no problem that can be
    judged, SuiteOutputError if the suite cannot be written to ``out``.
    """
    _check_target(source, out, overwrite)
    form, limits = form or detect_form(source), limits or DefaultLimits()
    given = None if statements is None else read_statements(statements)
    items = read_source(source, form, limits=limits, statements=given)
    report = ImportReport(out, form)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{out.name}.importing-"
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=prefix) as scratch:
            made = Path(scratch) / "suite"
            made.mkdir()
            _write(made, source, items, report)
            _write_manifest(made / "suite.json", name or source.stem, source, limits, report)
            replace_directory(made, out, aside=Path(scratch) / "replaced")
    except OSError as error:
        raise SuiteOutputError(f"{out}: cannot be written ({error})") from error
    return report


def report_lines(report: ImportReport) -> Iterator[str]:
    """Say in a few lines what an import did."""
    yield f"{report.path}: {report.problems} problems, {report.tests} tests ({report.form})"
    for what, counted in (
        ("Skipped", report.skipped),
        ("Tests left out of these problems", report.tests_left_out),
        ("To know", report.notes),
    ):
        if counted:
            yield f"{what}: {', '.join(f'{k} {count}' for k, count in counted.most_common())}"
    if report.without_statement:
        yield f"Without a statement, only to be judged: {report.without_statement}"
    yield from report.examples
    if report.skipped or report.tests_left_out:
        yield f"Reasons: {report.path / 'skipped.jsonl'}"
    if report.notes:
        yield f"All that is to know: {report.path / 'notes.jsonl'}"


def _check_target(source: Path, out: Path, overwrite: bool) -> None:
    """Refuse targets that hold anything but a suite that may go."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise SuiteOutputError(f"{out}: is no directory; a suite is one")
    if not out.exists():
        return
    if source.resolve().is_relative_to(out.resolve()):
        raise SuiteOutputError(f"{out}: holds the source itself; choose another directory")
    if not overwrite:
        raise SuiteOutputError(f"{out}: exists; choose another name, or replace it (--overwrite)")
    if any(out.iterdir()):
        try:
            read_manifest(out)
        except SuiteError as error:
            no_suite = f"{out}: is no suite, so it is not replaced ({error})"
            raise SuiteOutputError(no_suite) from error


def _write(
    folder: Path,
    source: Path,
    items: Iterable[Problem | Skipped | Note],
    report: ImportReport,
) -> None:
    """Write the files, one problem in memory at a time, and count what is in them."""
    digest = hashlib.sha256()
    first: list[Skipped] = []
    names = ("problems.jsonl", "skipped.jsonl", "notes.jsonl")
    with ExitStack() as stack:
        streams = [stack.enter_context((folder / name).open("wb")) for name in names]
        for item in items:
            if isinstance(item, Problem):
                streams[0].write(problem_line(item))
                digest.update(digest_line(item))
                report.problems += 1
                report.tests += len(item.tests)
                report.without_statement += not item.statement.strip()
                continue
            if isinstance(item, Note):
                report.notes[item.kind] += 1
                reason = item.detail
            else:
                (report.skipped if item.test is None else report.tests_left_out)[item.kind] += 1
                first += [item][: _REASONS_SHOWN - len(first)]
                reason = item.reason
            if len(report.examples) < _EXAMPLES:
                report.examples.append(f"  {item.where}: {item.kind}: {reason:.300}")
            row = json.dumps(asdict(item), ensure_ascii=False).encode("utf-8", "backslashreplace")
            streams[1 + isinstance(item, Note)].write(row + b"\n")
        for stream in streams:
            stream.flush()
            os.fsync(stream.fileno())
    if not report.problems:
        raise no_problems(source, first)
    report.digest = digest.hexdigest()


def _write_manifest(
    path: Path, name: str, source: Path, limits: DefaultLimits, report: ImportReport
) -> None:
    content = {
        "format": SUITE_FORMAT,
        "name": name,
        "digest": report.digest,
        "source": {"name": source.name, "form": report.form},
        "default_limits": asdict(limits),
        "problems": report.problems,
        "tests": report.tests,
        "skipped": dict(report.skipped.most_common()),
        "tests_left_out": dict(report.tests_left_out.most_common()),
        "notes": dict(report.notes.most_common()),
    }
    replace_file(path, json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n")
