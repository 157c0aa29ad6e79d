"""Judging a file of completions, without any model.

The output folder gets ``judge.json`` (what was judged, and how), ``verdicts.jsonl``, one row for
each problem and sample, appended as made, and, where rows of the file cannot be judged,
``not_judged.jsonl``, which lists them. A run that was killed is resumed by the same call: whole
rows are kept, a torn last line and rows with a UKE, also of one test, are judged again. When all
are there the file is put into the order of the completions.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import RecordsError
from evaluator.judging.completions import Completions, Key, NotJudged, read_completions
from evaluator.judging.extract import Extraction, extract_code
from evaluator.judging.judge import JudgeJob, judge_jobs
from evaluator.judging.sandbox.sandbox import Sandbox, probe_sandbox
from evaluator.judging.verdicts import ProgramVerdict
from evaluator.store.lock import locked
from evaluator.store.records import repair
from evaluator.suites.suite import Suite, load_suite
from tinylora.files.whole_file import replace_file

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class JudgeSummary:
    """What a run of :func:`judge_completions` did.

    Attributes:
        verdicts_path: The file of verdicts.
        total: Rows in it.
        judged: Rows that this call judged; the others were there before.
        counts: Verdict -> rows.
        without_code: Rows in whose completion no code was found (counted under CE).
        chosen: Rows in whose completion one of several programs, or parts of them, was chosen.
        not_judged: Rows of the file that are no completion of the suite: they have no verdict.
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
    progress: Progress | None = None,
) -> JudgeSummary:
    """Judge every completion of a file.

    Args:
        suite: A suite, or the path of one, or of any source that could be imported as one.
        completions: The file of completions.
        out: The output folder; made where it is missing.
        settings: How to compile and run; None means the defaults.
        sandbox: Where; None probes for one.
        progress: Called with (rows done, rows in all) at the start and after every row.

    Raises:
        SuiteError: If the suite cannot be used.
        CompletionsError: If the file cannot be read, or no row of it can be judged.
        RecordsError: If the folder holds verdicts of something else.
        RunDirectoryError: If another judge writes there.
        SandboxUnavailableError: If programs cannot be run here.
    """
    settings = settings or JudgeSettings()
    suite = suite if isinstance(suite, Suite) else load_suite(suite)
    read = read_completions(Path(completions), suite)
    rows = read.texts
    sandbox = sandbox or probe_sandbox(settings.unsafe)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _check_manifest(out / "judge.json", suite, settings, sandbox)
        _list_not_judged(out / "not_judged.jsonl", read)
        path = out / "verdicts.jsonl"
        kept = _kept_verdicts(path, rows)
        todo = {key: text for key, text in rows.items() if key not in kept}
        if progress is not None:
            progress(len(kept), len(rows))
        with path.open("a", encoding="utf-8") as stream:
            for row in _judge(suite, todo, settings, sandbox):
                kept[row["problem"], row["sample"]] = row
                stream.write(_line(row))
                stream.flush()
                if progress is not None:
                    progress(len(kept), len(rows))
        replace_file(path, "".join(_line(kept[key]) for key in rows).encode())
    counts = Counter(row["verdict"] for row in kept.values())
    return JudgeSummary(
        verdicts_path=path,
        total=len(rows),
        judged=len(todo),
        counts=dict(sorted(counts.items())),
        without_code=sum(row["extraction"] == "none" for row in kept.values()),
        chosen=sum(row.get("choice", "only") != "only" for row in kept.values()),
        not_judged=read.not_judged,
    )


def _list_not_judged(path: Path, read: Completions) -> None:
    """Write the rows without a verdict, or take away the list of a former call."""
    lines = [_line(asdict(row)) for row in read.not_judged]
    replace_file(path, "".join(lines).encode()) if lines else path.unlink(missing_ok=True)


def _check_manifest(path: Path, suite: Suite, settings: JudgeSettings, sandbox: Sandbox) -> None:
    """Write down what is judged and how, or hold it against what a former call wrote."""
    manifest = {"suite": suite.name, "suite_digest": suite.digest, "settings": _deciding(settings)}
    manifest = json.loads(json.dumps({**manifest, "sandbox": asdict(sandbox.info)}))
    if not path.exists():
        replace_file(path, json.dumps(manifest, indent=2).encode() + b"\n")
        return
    former = json.loads(path.read_text(encoding="utf-8"))
    for key in ("suite_digest", "settings"):
        if former.get(key) != manifest[key]:
            raise RecordsError(
                f"{path}: the verdicts there were made with another {key} "
                f"({former.get(key)!r:.200}, now {manifest[key]!r:.200}); use a new folder"
            )
    _check_rung(path, former["sandbox"]["rung"], sandbox.info.rung)


def _deciding(settings: JudgeSettings) -> dict[str, Any]:
    """The settings that decide verdicts; ``unsafe`` decides only about the sandbox's rung."""
    left_out = ("workers", "testlib_path", "unsafe")
    kept = {name: value for name, value in asdict(settings).items() if name not in left_out}
    return {**kept, "testlib_sha256": settings.testlib_sha256()}


def _check_rung(path: Path, before: str, now: str) -> None:
    """Refuse verdicts of which some come from programs that could read the answers."""
    if before == now:
        return
    if "unsafe" in (before, now):
        raise RecordsError(
            f"{path}: the verdicts there were made in sandbox {before}, now it is {now}; use a new "
            "folder"
        )
    logger.warning("%s: begun in sandbox %s", path, before)


def _kept_verdicts(path: Path, rows: Mapping[Key, str]) -> dict[Key, dict[str, Any]]:
    """Read the verdicts of a former call; a torn last line is cut off the file."""
    if not path.exists():
        return {}
    repair(path)
    kept: dict[Key, dict[str, Any]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            key = (row["problem"], row["sample"])
            digest = row["completion_sha256"]
            verdicts = (row["verdict"], *(test["verdict"] for test in row["tests"]))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordsError(f"{path}, line {number}: not a verdict ({error!r})") from error
        if key not in rows:
            raise RecordsError(f"{path}, line {number}: no completion of {key} any more")
        if digest != _digest(rows[key]):
            raise RecordsError(f"{path}, line {number}: was judged for another text of {key}")
        if "UKE" not in verdicts:
            kept[key] = row
    return kept


def _judge(
    suite: Suite, todo: Mapping[Key, str], settings: JudgeSettings, sandbox: Sandbox
) -> Iterator[dict[str, Any]]:
    """Judge what is left; yields finished rows."""
    problems = suite.by_id()
    extractions = {key: extract_code(text) for key, text in todo.items()}
    jobs = (
        JudgeJob((key[0], str(key[1])), problems[key[0]], found.code, found.reason)
        for key, found in extractions.items()
    )
    with closing(judge_jobs(jobs, settings, sandbox)) as verdicts:
        for (problem, sample), verdict in verdicts:
            key = (problem, int(sample))
            yield _row(key, verdict, extractions[key], todo[key])


def _row(
    key: Key, verdict: ProgramVerdict, extraction: Extraction, completion: str
) -> dict[str, Any]:
    """Build one row of ``verdicts.jsonl``."""
    return {
        "problem": key[0],
        "sample": key[1],
        "verdict": verdict.verdict,
        "score": verdict.score,
        "subtasks": {str(k): v for k, v in verdict.subtasks.items()},
        "extraction": extraction.how,
        "choice": extraction.choice,
        "detail": verdict.detail,
        "compile_message": verdict.compile_message,
        "tests": [asdict(test) for test in verdict.tests],
        "completion_sha256": _digest(completion),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _line(row: Mapping[str, Any]) -> str:
    """Spell one row; ASCII, so that no text can tear a line or fail to encode."""
    return json.dumps(row, ensure_ascii=True) + "\n"
