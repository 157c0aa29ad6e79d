"""Judging a file of completions, without any model.

A row is ``{"problem": id, "sample": int, "completion": str}``; one that cannot be judged is listed
with its place and reason, and the others are judged.

The output folder gets ``judge.json`` (what was judged, and how), ``verdicts.jsonl``, and, where
rows of the file cannot be judged, ``not_judged.jsonl``. A killed call is resumed by the same call:
rows that are torn or have a UKE, also of one test, are judged again.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluator.checked import LARGEST_WHOLE
from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import CompletionsError, RecordsError, SuiteError
from evaluator.judging.sandbox.sandbox import Sandbox, probe_sandbox
from evaluator.judging.stage import Submission, VerdictFile, judge_into, submission, text_digest
from evaluator.progress import Progress
from evaluator.store.lock import locked
from evaluator.store.records import Key, VerdictRecord, rewrite_sorted
from evaluator.store.run_directory import check_directory
from evaluator.suites.importers.rows import Row, read_rows
from evaluator.suites.suite import Suite, load_suite
from tinylora.files.json_text import read_object
from tinylora.files.whole_file import replace_file

logger = logging.getLogger(__name__)

_COLUMNS = (
    *("problem", "sample", "verdict", "score", "subtasks", "extraction", "choice", "code_sha256"),
    *("detail", "compile_message", "tests", "completion_sha256"),
)


@dataclass(frozen=True)
class NotJudged:
    """A row that is no completion of the suite: its place in the file, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class JudgeSummary:
    """What a run of :func:`judge_completions` did.

    Attributes:
        total: Rows in the file of verdicts.
        judged: Rows that this call judged; the others were there before.
        without_code: Rows in whose completion no code was found (counted under CE).
        chosen: Rows in whose completion one of several programs, or parts of them, was chosen.
        sandbox: Name of the rung that programs ran on.
    """

    verdicts_path: Path
    total: int
    judged: int
    counts: Mapping[str, int]
    without_code: int
    chosen: int
    not_judged: tuple[NotJudged, ...]
    sandbox: str


def judge_completions(
    suite_path: Path,
    completions: Path,
    out: Path,
    settings: JudgeSettings,
    sandbox: Sandbox | None = None,
    progress: Progress = lambda *_: None,
) -> JudgeSummary:
    """Judge every completion of a file on a suite, or on what could be imported as one.

    RecordsError where the folder ``out`` holds verdicts of something else, RunDirectoryError where
    it holds other files, another TinyLoRAError where anything that is needed cannot be used.
    """
    suite = load_suite(suite_path)
    texts, not_judged = read_completions(completions, suite)
    sandbox = sandbox or probe_sandbox(settings.unsafe)
    check_directory(out, "judge.json", "judgement")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _check_manifest(out / "judge.json", suite, settings, sandbox)
        listed = out / "not_judged.jsonl"
        lines = [_line(asdict(row)) for row in not_judged]
        replace_file(listed, b"".join(lines)) if lines else listed.unlink(missing_ok=True)
        submissions = {key: submission(key, text) for key, text in texts.items()}
        file = VerdictFile(
            out / "verdicts.jsonl",
            lambda row: _record(row, texts, submissions),
            lambda record: _line(_row(record, texts[record.key])),
        )
        of_all = [*submissions.values()]
        verdicts, judged = judge_into(file, of_all, suite, settings, sandbox, progress)
        rewrite_sorted(file.path, verdicts, file.line)
    return JudgeSummary(
        verdicts_path=file.path,
        total=len(verdicts),
        judged=judged,
        counts=dict(sorted(Counter(record.verdict for record in verdicts).items())),
        without_code=sum(record.how == "none" for record in verdicts),
        chosen=sum(record.was_chosen for record in verdicts),
        not_judged=not_judged,
        sandbox=sandbox.info.rung,
    )


def read_completions(path: Path, suite: Suite) -> tuple[dict[Key, str], tuple[NotJudged, ...]]:
    """Read a file; a CompletionsError if it cannot be read, or no row of it can be judged.

    Gives (arm, problem, sample) -> text, in the file's order, the arm being empty; the other rows.
    """
    known = suite.by_id().keys()
    texts: dict[Key, str] = {}
    bad: list[NotJudged] = []
    try:
        for row in read_rows(path):
            try:
                key, text = _completion(row)
                if key[1] not in known:
                    raise CompletionsError(_not_there(key[1], suite))
                if texts.setdefault(key, text) != text:
                    twice = f"problem {key[1]!r:.80}, sample {key[2]} stands twice"
                    raise CompletionsError(f"{twice}; the first counts")
            except CompletionsError as error:
                bad.append(NotJudged(row.where, str(error)))
    except SuiteError as error:
        raise CompletionsError(str(error)) from error
    if not texts:
        first = f": {path}, {bad[0].where}: {bad[0].reason}" if bad else " in it"
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise CompletionsError(f"{path}: no completions{first}{more}")
    return texts, tuple(bad)


def _completion(row: Row) -> tuple[Key, str]:
    """Check one row; a CompletionsError says what is wrong with it, without its place."""
    if row.fault:
        raise CompletionsError(row.fault)
    fields: dict[str, Any] = row.values
    problem, sample, text = fields.get("problem"), fields.get("sample"), fields.get("completion")
    sample = 0 if sample is None else sample
    if isinstance(problem, bool) or not isinstance(problem, str | int):
        raise CompletionsError(f"'problem' is {problem!r:.80}, expected the id of a problem")
    if isinstance(sample, bool) or not isinstance(sample, int) or abs(sample) > LARGEST_WHOLE:
        raise CompletionsError(f"'sample' is {sample!r:.80}, expected a whole number of 64 bits")
    if not isinstance(text, str):
        found = type(text).__name__
        raise CompletionsError(f"'completion' is of type {found}, expected a string")
    return ("", str(problem), sample), text


def _not_there(problem: str, suite: Suite) -> str:
    """Why a problem cannot be judged: the suite left it out, or does not have it."""
    left_out = (s for s in suite.skipped if s.id == problem and s.test is None)
    reason = next((f"; left out, {s.where}: {s.reason}" for s in left_out), "")
    has = f"{len(suite.problems)} problems, such as {', '.join(p.id for p in suite.problems[:3])}"
    return f"problem {problem!r:.80} is not in suite {suite.name!r}{reason} ({has})"


def _check_manifest(path: Path, suite: Suite, settings: JudgeSettings, sandbox: Sandbox) -> None:
    """Write down what is judged and how, or hold it against what a former call wrote."""
    left_out = ("workers", "testlib_path", "unsafe")  # which decide no verdict
    deciding = {name: value for name, value in asdict(settings).items() if name not in left_out}
    deciding["testlib_sha256"] = settings.testlib_sha256()
    manifest = {"suite": suite.name, "suite_digest": suite.digest, "settings": deciding}
    manifest = json.loads(json.dumps({**manifest, "sandbox": asdict(sandbox.info)}))
    if not path.exists():
        replace_file(path, json.dumps(manifest, indent=2).encode() + b"\n")
        return
    former = read_object(path, RecordsError)
    made = f"{path}: the verdicts there were made"
    for key in ("suite_digest", "settings"):
        if former.get(key) != manifest[key]:
            found, now = f"{former.get(key)!r:.200}", f"{manifest[key]!r:.200}"
            raise RecordsError(f"{made} with another {key} ({found}, now {now}); use a new folder")
    info, now = former.get("sandbox"), sandbox.info.rung
    before = info.get("rung") if isinstance(info, dict) else None
    if before == now:
        return
    if "unsafe" in (before, now):  # of which programs could read the answers
        raise RecordsError(f"{made} in sandbox {before}, now it is {now}; use a new folder")
    logger.warning("%s: begun in sandbox %s", path, before)


def _record(
    row: Mapping[str, Any], texts: Mapping[Key, str], submissions: Mapping[Key, Submission]
) -> VerdictRecord:
    """Read one row of ``verdicts.jsonl``; a RecordsError if it is of other completions."""
    key = ("", row["problem"], row["sample"])
    if key not in texts or row["completion_sha256"] != text_digest(texts[key]):
        sample = f"sample {key[2]!r:.40} of problem {key[1]!r:.60}"
        was = "was judged for another text than the completions have now"
        raise RecordsError(f"verdicts.jsonl: {sample} {was}; use a new folder")
    fields = {name: row[name] for name in _COLUMNS[2:-1]}
    fields["how"] = fields.pop("extraction")
    return VerdictRecord.from_row({**submissions[key].own_fields, **fields})


def _row(record: VerdictRecord, completion: str) -> dict[str, Any]:
    fields = asdict(record) | {"extraction": record.how}
    fields["completion_sha256"] = text_digest(completion)
    return {name: fields[name] for name in _COLUMNS}


def _line(row: Mapping[str, Any]) -> bytes:
    """Spell one row; ASCII, so that no text can tear a line or fail to encode."""
    return json.dumps(row, ensure_ascii=True).encode() + b"\n"
