"""The stage that judges completions: ``generations.jsonl`` in, ``verdicts.jsonl`` out.

Equal programs of one problem are judged once, whichever arms and samples wrote them. So arms with
equal programs have equal verdicts, and a time that lies near a limit makes no flip.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from evaluator.config.judge_settings import JudgeSettings
from evaluator.generation.stage import Progress
from evaluator.judging.extract import Extraction, extract_code
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.sandbox.sandbox import Sandbox
from evaluator.judging.verdicts import ProgramVerdict
from evaluator.store.records import (
    GenerationRecord,
    Key,
    TestRecord,
    VerdictRecord,
    append,
    read,
    repair,
    rewrite_sorted,
)
from evaluator.store.run_directory import RunDirectory
from evaluator.suites.problem import Problem
from evaluator.suites.suite import Suite

# Problem and digest of the program, or the reason why there is none.
_Program = tuple[str, str]


@dataclass(frozen=True)
class _Submission:
    """A completion with what was extracted from it."""

    key: Key
    extraction: Extraction
    code_sha256: str | None

    @property
    def program(self) -> _Program:
        return self.key[1], self.code_sha256 or f"no code: {self.extraction.reason}"


def judge_all(
    directory: RunDirectory,
    suite: Suite,
    generations: Sequence[GenerationRecord],
    settings: JudgeSettings,
    sandbox: Sandbox,
    progress: Progress,
) -> None:
    """Judge the completions that have no verdict yet, or one by a judge that failed (UKE).

    A verdict on another program than the completion's counts as none.

    Args:
        directory: Of the run.
        suite: The problems.
        generations: All completions, in the order of the records.
        settings: Of the judge.
        sandbox: What programs run in.
        progress: Called after each program.
    """
    path = directory.verdicts
    submissions = [_submission(record) for record in generations]
    verdicts = _usable_verdicts(path, {s.key: s.code_sha256 for s in submissions})
    waiting: dict[_Program, list[_Submission]] = {}
    judged: dict[_Program, VerdictRecord] = {}
    for submission in submissions:
        if submission.key in verdicts:
            judged[submission.program] = verdicts[submission.key]
        else:
            waiting.setdefault(submission.program, []).append(submission)

    def keep(made: list[VerdictRecord]) -> None:
        append(path, made)
        verdicts.update((record.key, record) for record in made)
        progress("judge", len(verdicts), len(generations))

    keep([])
    for program in waiting.keys() & judged.keys():
        keep([_copy(judged[program], s) for s in waiting.pop(program)])
    problems = suite.by_id()
    jobs = [_job(group[0], problems[group[0].key[1]]) for group in waiting.values()]
    with closing(judge_jobs(jobs, settings, sandbox)) as finished:
        for key, verdict in finished:
            keep([_record(submission, verdict) for submission in waiting[key[0], key[1]]])
    rewrite_sorted(path, [verdicts[record.key] for record in generations])


def _usable_verdicts(path: Path, programs: Mapping[Key, str | None]) -> dict[Key, VerdictRecord]:
    """Verdicts of earlier starts on these very programs, without those of a judge that failed."""
    repair(path)
    verdicts = read(path, VerdictRecord.from_row)
    usable = {
        key: record
        for key, record in verdicts.items()
        if not record.judge_failed and programs.get(key, record.code_sha256) == record.code_sha256
    }
    if len(usable) < len(verdicts):
        rewrite_sorted(path, usable.values())
    return usable


def _submission(record: GenerationRecord) -> _Submission:
    extraction = extract_code(record.text)
    code = extraction.code
    digest = None
    if code is not None:
        digest = hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()
    return _Submission(record.key, extraction, digest)


def _job(submission: _Submission, problem: Problem) -> JudgeJob:
    return JudgeJob(
        key=submission.program,
        problem=problem,
        code=submission.extraction.code,
        no_code_reason=submission.extraction.reason,
    )


def _record(submission: _Submission, verdict: ProgramVerdict) -> VerdictRecord:
    arm, problem, sample = submission.key
    return VerdictRecord(
        arm=arm,
        problem=problem,
        sample=sample,
        verdict=verdict.verdict,
        score=verdict.score,
        code_sha256=submission.code_sha256,
        how=submission.extraction.how,
        reason=submission.extraction.reason or "",
        compile_message=verdict.compile_message,
        detail=verdict.detail,
        subtasks={str(name): points for name, points in verdict.subtasks.items()},
        tests=tuple(TestRecord(**asdict(test)) for test in verdict.tests),
        choice=submission.extraction.choice,
    )


def _copy(record: VerdictRecord, submission: _Submission) -> VerdictRecord:
    """The verdict of an equal program for another completion."""
    arm, problem, sample = submission.key
    return replace(
        record,
        arm=arm,
        problem=problem,
        sample=sample,
        how=submission.extraction.how,
        reason=submission.extraction.reason or "",
        choice=submission.extraction.choice,
    )
