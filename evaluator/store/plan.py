"""The plan of a run, written before its first completion, and what made each completion.

δ, the suite, and the numbers of samples and looks are what a verdict depends on besides the texts.
Chosen after the texts were seen they prove nothing. So their digest stands in every completion's
record: where one of them is changed afterwards, in whatever file, the records no longer belong to
the plan.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from evaluator.errors import RecordsError
from evaluator.store.records import GenerationRecord, Key
from evaluator.store.run_directory import RunDirectory, RunFacts
from tinylora.files.json_text import read_object
from tinylora.files.whole_file import replace_file

# Of a run's configuration, what decides completions beside an arm's own settings.
_GENERATING = ("decoding", "compute_dtype", "device", "backend")


def plan_id(facts: RunFacts) -> str:
    """Digest of what verdicts depend on besides texts: suite, samples, δ, looks; 16 digits."""
    return _digest(_planned(facts))


def maker_ids(facts: RunFacts) -> dict[str, str]:
    """By arm, a digest of all that decides its completions but its name; 16 digits."""
    common = [facts.prompts_digest, *(facts.config.get(name) for name in _GENERATING)]
    settings = {arm["name"]: {**arm, "name": ""} for arm in facts.config.get("arms", ())}
    return {
        arm.name: _digest([common, settings.get(arm.name), arm.digest, arm.artifact_digest])
        for arm in facts.arms
    }


def write_plan(directory: RunDirectory, facts: RunFacts) -> None:
    """Write ``plan.json``, unless it or a completion is there already."""
    if directory.plan.exists() or directory.generations.exists():
        return
    plan = {
        "id": plan_id(facts),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **_planned(facts),
        "problems": len(facts.problems),
        "arms": [asdict(arm) for arm in facts.arms],
    }
    replace_file(directory.plan, json.dumps(plan, ensure_ascii=False, indent=1).encode() + b"\n")


def kept_plan(
    directory: RunDirectory, facts: RunFacts, generations: Iterable[GenerationRecord]
) -> str | None:
    """The id of the plan if it is there and every completion was made under it, else None."""
    if not directory.plan.is_file():
        return None
    written, planned = read_object(directory.plan, RecordsError), plan_id(facts)
    wanted = {"id": planned, **_planned(facts)}
    if any(written.get(name) != value for name, value in wanted.items()):
        return None
    return planned if all(one.plan == planned for one in generations) else None


def check_makers(
    directory: RunDirectory, facts: RunFacts, generations: Mapping[Key, GenerationRecord]
) -> None:
    """Refuse with RecordsError texts that another model, prompt or decoding made."""
    makers = maker_ids(facts)
    for record in generations.values():
        if record.maker not in ("", makers.get(record.arm, record.maker)):
            raise RecordsError(
                f"{directory.path}: the completion of {record.problem} under arm {record.arm} was "
                f"made by another model or other settings ({record.maker}, expected "
                f"{makers[record.arm]}); remove the lines that do not belong to this run, or give "
                "--overwrite to start anew"
            )


def _planned(facts: RunFacts) -> dict[str, Any]:
    return {
        "suite": facts.suite_digest,
        "prompts": facts.prompts_digest,
        "samples": facts.samples,
        "margin": float(facts.config["equivalence"]["margin"]),
        **({"looks": facts.looks} if facts.looks > 1 else {}),
    }


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
