"""The stage that judges completions: ``generations.jsonl`` in, ``verdicts.jsonl`` out.

Equal programs of one problem are judged once, whichever arms and samples wrote them. So arms with
equal programs have equal verdicts, and a time that lies near a limit makes no flip.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluator.config.judge_settings import JudgeSettings
from evaluator.judging.extract import Extraction, extract_code
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.sandbox.sandbox import Sandbox
from evaluator.progress import Progress
from evaluator.store.records import (
    GenerationRecord,
    Key,
    VerdictRecord,
    append,
    read,
    record_line,
    rewrite_sorted,
)
from evaluator.store.run_directory import RunDirectory
from evaluator.suites.suite import Suite

_Program = tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """A completion, by (arm, problem, sample), with what was extracted from it."""

    key: Key
    extraction: Extraction
    code_sha256: str | None

    @property
    def program(self) -> _Program:
        """What has one verdict: the problem, and the program's digest or why there is none."""
        return self.key[1], self.code_sha256 or f"no code: {self.extraction.reason}"

    @property
    def own_fields(self) -> dict[str, Any]:
        """Fields of the verdict that are the completion's and not the program's."""
        arm, problem, sample = self.key
        found = self.extraction
        names = {"arm": arm, "problem": problem, "sample": sample}
        return {**names, "how": found.how, "reason": found.reason or "", "choice": found.choice}


def submission(key: Key, text: str) -> Submission:
    """Extract the program of a completion."""
    found = extract_code(text)
    return Submission(key, found, None if found.code is None else text_digest(found.code))


def text_digest(text: str) -> str:
    """sha256 of a text, which need not be valid Unicode."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def judge_all(
    directory: RunDirectory,
    suite: Suite,
    generations: Sequence[GenerationRecord],
    settings: JudgeSettings,
    sandbox: Sandbox,
    progress: Progress,
) -> list[VerdictRecord]:
    """Judge the completions that have no verdict on their program yet, or a UKE; all verdicts."""
    submissions = [submission(record.key, record.text) for record in generations]
    file = VerdictFile(directory.verdicts)
    return judge_into(file, submissions, suite, settings, sandbox, progress)[0]


@dataclass(frozen=True)
class VerdictFile:
    """A file of verdicts, and how its lines are read and written."""

    path: Path
    from_row: Callable[[dict[str, Any]], VerdictRecord] = VerdictRecord.from_row
    line: Callable[[VerdictRecord], bytes] = record_line


def judge_into(
    file: VerdictFile,
    submissions: Sequence[Submission],
    suite: Suite,
    settings: JudgeSettings,
    sandbox: Sandbox,
    progress: Progress,
) -> tuple[list[VerdictRecord], int]:
    """Judge what has no usable verdict in a file, and append it.

    Gives the verdicts in the order of the submissions, and how many of them were made now.
    """
    usable = _usable_verdicts(file, {s.key: s.code_sha256 for s in submissions})
    verdicts = {one.key: usable[one.key] for one in submissions if one.key in usable}
    before = len(verdicts)
    judged = {one.program: verdicts[one.key] for one in submissions if one.key in verdicts}
    waiting: dict[_Program, list[Submission]] = {}
    for one in submissions:
        if one.key not in verdicts:
            waiting.setdefault(one.program, []).append(one)

    def keep(record: VerdictRecord, group: Sequence[Submission]) -> None:
        made = [replace(record, **one.own_fields) for one in group]
        append(file.path, made, file.line)
        verdicts.update((record.key, record) for record in made)
        progress("judge", len(verdicts), len(submissions))

    progress("judge", before, len(submissions))
    for program in waiting.keys() & judged.keys():
        keep(judged[program], waiting.pop(program))
    problems, jobs = suite.by_id(), []
    for program, group in waiting.items():
        found = group[0].extraction
        jobs.append(JudgeJob(program, problems[program[0]], found.code, found.reason))
    with closing(judge_jobs(jobs, settings, sandbox)) as finished:
        for program, verdict in finished:
            first = waiting[program][0]
            points = {str(name): got for name, got in verdict.subtasks.items()}
            fields = {**vars(verdict), **first.own_fields, "subtasks": points}
            keep(VerdictRecord(code_sha256=first.code_sha256, **fields), waiting[program])
    return [verdicts[one.key] for one in submissions], len(verdicts) - before


def _usable_verdicts(
    file: VerdictFile, programs: Mapping[Key, str | None]
) -> dict[Key, VerdictRecord]:
    """Verdicts of earlier starts on these very programs, without those of a judge that failed."""
    verdicts = read(file.path, file.from_row)
    usable = {
        key: record
        for key, record in verdicts.items()
        if not record.judge_failed and programs.get(key, record.code_sha256) == record.code_sha256
    }
    if len(usable) < len(verdicts):
        rewrite_sorted(file.path, usable.values(), file.line)
    return usable
