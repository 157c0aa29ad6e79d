"""Judging a file of completions, without any model.

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

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import RecordsError
from evaluator.judging.completions import NotJudged, read_completions
from evaluator.judging.sandbox.sandbox import Sandbox, probe_sandbox
from evaluator.judging.stage import Submission, VerdictFile, judge_into, submission, text_digest
from evaluator.progress import Progress
from evaluator.store.lock import locked
from evaluator.store.records import Key, TestRecord, VerdictRecord
from evaluator.suites.suite import Suite, load_suite
from tinylora.files.json_text import read_object
from tinylora.files.whole_file import replace_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgeSummary:
    """What a run of :func:`judge_completions` did.

    Attributes:
        total: Rows in the file of verdicts.
        judged: Rows that this call judged; the others were there before.
        without_code: Rows in whose completion no code was found (counted under CE).
        chosen: Rows in whose completion one of several programs, or parts of them, was chosen.
    """

    verdicts_path: Path
    total: int
    judged: int
    counts: Mapping[str, int]
    without_code: int
    chosen: int
    not_judged: tuple[NotJudged, ...]


def judge_completions(
    suite: Suite | str | Path,
    completions: str | Path,
    out: str | Path,
    settings: JudgeSettings | None = None,
    sandbox: Sandbox | None = None,
    progress: Progress = lambda *_: None,
) -> JudgeSummary:
    """Judge every completion of a file.

    Args:
        suite: A suite, or the path of one, or of any source that could be imported as one.
        completions: Rows as :mod:`evaluator.judging.completions` has them.
        out: The output folder; made where it is missing.
        settings: None means the defaults.
        sandbox: None probes for one.
        progress: Called at the start and after every row.

    Raises:
        RecordsError: If the folder holds verdicts of something else.
        TinyLoRAError: Another one, if anything that is needed cannot be used.
    """
    settings = settings or JudgeSettings()
    suite = suite if isinstance(suite, Suite) else load_suite(suite)
    read = read_completions(Path(completions), suite)
    sandbox = sandbox or probe_sandbox(settings.unsafe)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _check_manifest(out / "judge.json", suite, settings, sandbox)
        not_judged = out / "not_judged.jsonl"
        lines = [_line(asdict(row)) for row in read.not_judged]
        replace_file(not_judged, b"".join(lines)) if lines else not_judged.unlink(missing_ok=True)
        texts = {("", *key): text for key, text in read.texts.items()}
        submissions = {key: submission(key, text) for key, text in texts.items()}
        file = VerdictFile(
            out / "verdicts.jsonl",
            lambda row: _record(row, texts, submissions),
            lambda record: _line(_row(record, texts[record.key])),
        )
        of_all = [*submissions.values()]
        verdicts, judged = judge_into(file, of_all, suite, settings, sandbox, progress)
    return JudgeSummary(
        verdicts_path=file.path,
        total=len(verdicts),
        judged=judged,
        counts=dict(sorted(Counter(record.verdict for record in verdicts).items())),
        without_code=sum(record.how == "none" for record in verdicts),
        chosen=sum(record.choice != "only" for record in verdicts),
        not_judged=read.not_judged,
    )


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
        judged = "was judged for another text than the completions have now"
        raise RecordsError(f"verdicts.jsonl: {sample} {judged}; use a new folder")
    of = submissions[key]
    fields = ("verdict", "score", "subtasks", "detail", "compile_message")
    return VerdictRecord(
        **{**of.own_fields, "how": row["extraction"], "choice": row.get("choice", "only")},
        **{name: row[name] for name in fields},
        code_sha256=of.code_sha256,
        tests=tuple(TestRecord(**test) for test in row["tests"]),
    )


def _row(record: VerdictRecord, completion: str) -> dict[str, Any]:
    fields = asdict(record)
    row = {name: fields[name] for name in ("problem", "sample", "verdict", "score", "subtasks")}
    row["extraction"] = record.how
    row |= {name: fields[name] for name in ("choice", "detail", "compile_message", "tests")}
    return {**row, "completion_sha256": text_digest(completion)}


def _line(row: Mapping[str, Any]) -> bytes:
    """Spell one row; ASCII, so that no text can tear a line or fail to encode."""
    return json.dumps(row, ensure_ascii=True).encode() + b"\n"
