"""What made a run: command, versions and machine, of every session that differs in the last two.

A run may go on after an update or elsewhere, and a bench takes records over from other runs.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from evaluator.store.records import GenerationRecord
from evaluator.store.run_directory import RunDirectory


class MadeBy(NamedTuple):
    """Sessions that are alike: the last one's command, and versions and machine as text."""

    command: str
    versions: str
    machine: str


def distinct_sessions(sessions: Iterable[Any]) -> tuple[MadeBy, ...]:
    """Of sessions with equal versions and machine the last, in the order of the first of each."""
    alike: dict[tuple[str, str], MadeBy] = {}
    for session in sessions:
        versions = ", ".join(f"{name} {version}" for name, version in session["versions"].items())
        found = session["machine"]
        gpu = f" ({found['gpu']})" if found.get("gpu") else ""
        machine = f"{found['cpu']}, {found['cpus']} cores, {found['device']}{gpu}; "
        machine += f"sandbox: {session['sandbox'].get('rung')}"
        alike[versions, machine] = MadeBy(session["command"], versions, machine)
    return tuple(alike.values())


def made_by_lines(directory: RunDirectory, generations: Iterable[GenerationRecord]) -> str:
    """Suite, commands, versions and engines behind a run's tables, as Markdown."""
    facts = directory.read_facts()
    lines = [f"Suite {facts.suite}, sha256 `{facts.suite_digest[:16]}…`."]
    sessions = distinct_sessions(directory.sessions())
    if len(sessions) > 1:
        lines.append(f"Its records are from {len(sessions)} sets of versions and machines:")
    for session in sessions:
        lines.append(f"Made by `{session.command}` with {session.versions}.")
        lines.append(f"Machine: {session.machine}.")
    engines = Counter((one.arm, one.engine) for one in generations if one.engine)
    for (arm, engine), count in engines.items():
        lines.append(f"{count} texts of {arm}: by {engine}.")
    return "  \n".join(lines) + "\n"
