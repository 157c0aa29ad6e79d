"""What made a run: command, versions and machine, of every session that differs in the last two.

A run may go on after an update or elsewhere, and a bench takes records over from other runs.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from evaluator.store.records import GenerationRecord
from evaluator.store.run_directory import RunDirectory, RunFacts

_DECODING = (
    *("samples", "temperature", "top_p", "top_k", "repetition_penalty"),
    *("max_new_tokens", "stop", "batch_size", "seed"),
)


class MadeBy(NamedTuple):
    """Sessions that are alike: the last one's command, and versions and machine as text."""

    command: str
    versions: str
    machine: str
    date: str

    @property
    def sentence(self) -> str:
        """Command, date and versions."""
        on = f" on {self.date}" if self.date else ""
        return f"Made by `{self.command}`{on} with {self.versions}."


def distinct_sessions(sessions: Iterable[Any]) -> tuple[MadeBy, ...]:
    """Of sessions with equal versions and machine the last, in the order of the first of each."""
    alike: dict[tuple[str, str], MadeBy] = {}
    for session in sessions:
        versions = ", ".join(f"{name} {version}" for name, version in session["versions"].items())
        if commit := session.get("commit"):
            versions += f", commit {commit}"
        found = session["machine"]
        gpu = f" ({found['gpu']})" if found.get("gpu") else ""
        machine = f"{found['cpu']}, {found['cpus']} cores, {found['device']}{gpu}; "
        machine += f"sandbox: {session['sandbox'].get('rung')}"
        alike[versions, machine] = MadeBy(
            session["command"], versions, machine, str(session.get("started", ""))[:10]
        )
    return tuple(alike.values())


def asked_lines(facts: RunFacts) -> tuple[str, str]:
    """How texts were drawn, in which arithmetic, and which models did."""
    found = facts.config["decoding"]
    decoding = ", ".join(f"{name} {found[name]}" for name in _DECODING if name in found)
    computed = facts.config.get("compute_dtype") or "an unrecorded dtype"
    models = "; ".join(f"{arm.name} ({arm.kind}), {arm.digest[:16]}" for arm in facts.arms)
    return f"Decoding: {decoding}; computed in {computed}.", f"Models, by sha256: {models}."


def made_by_lines(directory: RunDirectory, generations: Iterable[GenerationRecord]) -> str:
    """Suite, commands, versions and engines behind a run's tables, as Markdown."""
    facts = directory.read_facts()
    lines = [f"Suite {facts.suite}, sha256 `{facts.suite_digest[:16]}…`.", *asked_lines(facts)]
    sessions = distinct_sessions(directory.sessions())
    if len(sessions) > 1:
        lines.append(f"Its records are from {len(sessions)} sets of versions and machines:")
    for session in sessions:
        lines.append(session.sentence)
        lines.append(f"Machine: {session.machine}.")
    engines = Counter((one.arm, one.engine) for one in generations if one.engine)
    for (arm, engine), count in engines.items():
        lines.append(f"{count} texts of {arm}: by {engine}.")
    return "  \n".join(lines) + "\n"
