"""Records that another run has already: an arm that is the same there need not be made again.

A completion depends on the model, the prompts and the decoding, a verdict on the tests and the
judge as well. Where all of this is equal, the records are copied, so that in a bench the base is
asked once for all artifacts, and a new artifact, format or margin costs only what depends on it.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluator.errors import RecordsError
from evaluator.store.records import GenerationRecord, VerdictRecord, append, read, repair
from evaluator.store.run_directory import RunDirectory, RunFacts

_log = logging.getLogger(__name__)
_GENERATING = ("decoding", "compute_dtype", "device", "backend")  # fields of a run's configuration


@dataclass(frozen=True)
class _Twin:
    """Two arms with the same completions.

    Attributes:
        here: Name of the arm in this run.
        there: Name of the arm in the other run.
        judged: Whether the verdicts are the same as well.
    """

    here: str
    there: str
    judged: bool


def take_over(directory: RunDirectory, facts: RunFacts, others: Iterable[RunDirectory]) -> None:
    """Append to a run the records that it lacks and other runs have.

    A run that cannot be read is passed over, with a warning: it is reported where it is used.

    Args:
        directory: A run that has begun, locked by the caller.
        facts: Of this run.
        others: Other runs.
    """
    for path in (directory.generations, directory.verdicts):
        repair(path)
    for other in others:
        try:
            twins = _twins(facts, other.read_facts())
            if twins:
                _copy(directory, other, twins)
        except RecordsError as error:
            _log.warning("%s: its records are not used: %s", other.path, error)


def _twins(facts: RunFacts, other: RunFacts) -> list[_Twin]:
    if facts.prompts_digest != other.prompts_digest:
        return []
    if any(facts.config.get(name) != other.config.get(name) for name in _GENERATING):
        return []
    judged = (facts.suite_digest, facts.config["judge"]) == (
        other.suite_digest,
        other.config.get("judge"),
    )
    models = {_model(other, place): arm.name for place, arm in enumerate(other.arms)}
    return [
        _Twin(arm.name, models[_model(facts, place)], judged)
        for place, arm in enumerate(facts.arms)
        if _model(facts, place) in models
    ]


def _model(facts: RunFacts, place: int) -> str:
    """All that decides what an arm's model computes and draws, as text."""
    arm = facts.arms[place]
    settings: dict[str, Any] = {**facts.config["arms"][place], "name": ""}
    return repr((sorted(settings.items()), arm.digest, arm.artifact_digest))


def _copy(directory: RunDirectory, other: RunDirectory, twins: Sequence[_Twin]) -> None:
    have = read(directory.generations, GenerationRecord.from_row)
    completions = [
        replace(record, arm=twin.here)
        for record in read(other.generations, GenerationRecord.from_row).values()
        for twin in twins
        if record.arm == twin.there
    ]
    judged = read(directory.verdicts, VerdictRecord.from_row)
    verdicts = [
        replace(record, arm=twin.here)
        for record in read(other.verdicts, VerdictRecord.from_row).values()
        for twin in twins
        if twin.judged and record.arm == twin.there and not record.judge_failed
    ]
    new_completions = [r for r in completions if r.key not in have]
    new_verdicts = [r for r in verdicts if r.key not in judged]
    if new_completions or new_verdicts:
        _take_over_sessions(directory, other)
    append(directory.generations, new_completions)
    append(directory.verdicts, new_verdicts)


def _take_over_sessions(directory: RunDirectory, other: RunDirectory) -> None:
    """Before the records: the report names whatever made them."""
    known = directory.sessions()
    for session in other.sessions():
        if session not in known:
            directory.add_session(session)
