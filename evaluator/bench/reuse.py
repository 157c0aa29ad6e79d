"""Records that another run has already: an arm that is the same there need not be made again.

A completion depends on the model, the prompts and the decoding, a verdict on the tests and the
judge as well. Where all of this is equal, the records are copied.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from evaluator.errors import RecordsError
from evaluator.store.records import GenerationRecord, Record, VerdictRecord, append, read, repair
from evaluator.store.run_directory import RunDirectory, RunFacts

_Record = TypeVar("_Record", bound=Record)
_log = logging.getLogger(__name__)
# Fields of a run's configuration that decide its completions, beside those of an arm.
_GENERATING = ("decoding", "compute_dtype", "device", "backend")


def take_over(directory: RunDirectory, facts: RunFacts, others: Iterable[RunDirectory]) -> None:
    """Append to a run the records that it lacks and other runs have.

    A run that cannot be read is passed over, with a warning: it is reported where it is used.
    """
    repair(directory.generations)
    repair(directory.verdicts)
    for other in others:
        try:
            _take_from(directory, facts, other)
        except RecordsError as error:
            _log.warning("%s: its records are not used: %s", other.path, error)


def _take_from(directory: RunDirectory, facts: RunFacts, other: RunDirectory) -> None:
    others = other.read_facts()
    if facts.prompts_digest != others.prompts_digest or any(
        facts.config.get(name) != others.config.get(name) for name in _GENERATING
    ):
        return
    models = dict(zip(_models(others), others.arms, strict=True))
    mine = zip(_models(facts), facts.arms, strict=True)
    pairs = [(arm.name, models[model].name) for model, arm in mine if model in models]
    read_completion, read_verdict = GenerationRecord.from_row, VerdictRecord.from_row
    completions = _lacking(directory.generations, other.generations, read_completion, pairs)
    verdicts = []
    if (facts.suite_digest, facts.config["judge"]) == (
        others.suite_digest,
        others.config.get("judge"),
    ):
        verdicts = _lacking(directory.verdicts, other.verdicts, read_verdict, pairs)
        verdicts = [verdict for verdict in verdicts if not verdict.judge_failed]
    if completions or verdicts:  # before the records: the report names what made them
        known = directory.sessions()
        for session in other.sessions():
            if session not in known:
                directory.add_session(session)
    append(directory.generations, completions)
    append(directory.verdicts, verdicts)


def _lacking(
    mine: Path,
    theirs: Path,
    from_row: Callable[[dict[str, Any]], _Record],
    pairs: Sequence[tuple[str, str]],
) -> list[_Record]:
    """Their records of arms that are the same here, under the names here, without those we have."""
    have = read(mine, from_row)
    return [
        record
        for found in read(theirs, from_row).values()
        for here, there in pairs
        if found.arm == there and (record := replace(found, arm=here)).key not in have
    ]


def _models(facts: RunFacts) -> list[str]:
    """For each arm all that decides what its model computes and draws, as text."""
    return [
        repr((sorted({**settings, "name": ""}.items()), arm.digest, arm.artifact_digest))
        for settings, arm in zip(facts.config["arms"], facts.arms, strict=True)
    ]
