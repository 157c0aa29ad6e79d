"""What made a run: command, versions and machine, of the last session of each such pair.

A run may go on after an update or elsewhere, and a bench takes records over from other runs.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from evaluator.store.records import GenerationRecord
from evaluator.store.run_directory import RunDirectory

_DECODING = (
    *("samples", "temperature", "top_p", "top_k", "repetition_penalty"),
    *("max_new_tokens", "stop", "batch_size", "seed"),
)


def made_by_lines(directory: RunDirectory, generations: Iterable[GenerationRecord]) -> list[str]:
    """Suite, decoding, models, commands, versions, machines and engines behind a run's tables."""
    facts = directory.read_facts()
    found = facts.config["decoding"]
    decoding = ", ".join(f"{name} {found[name]}" for name in _DECODING if name in found)
    computed = facts.config.get("compute_dtype") or "an unrecorded dtype"
    models = "; ".join(f"{arm.name} ({arm.kind}), {arm.digest[:16]}" for arm in facts.arms)
    lines = [
        f"Suite {facts.suite}, sha256 `{facts.suite_digest[:16]}…`.",
        f"Decoding: {decoding}; computed in {computed}.",
        f"Models, by sha256: {models}.",
    ]
    sessions = {_machine_and_versions(session): session for session in directory.sessions()}
    if len(sessions) > 1:
        lines.append(f"Its records are from {len(sessions)} sets of versions and machines:")
    for (machine, versions), last in sessions.items():
        on = f" on {date[:10]}" if (date := str(last.get("started", ""))) else ""
        lines.append(f"Made by `{last['command']}`{on} with {versions}.")
        lines.append(f"Machine: {machine}.")
    engines = Counter((one.arm, one.engine) for one in generations if one.engine)
    for (arm, engine), count in engines.items():
        lines.append(f"{count} texts of {arm}: by {engine}.")
    return lines


def _machine_and_versions(session: Any) -> tuple[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in session["versions"].items())
    if commit := session.get("commit"):
        versions += f", commit {commit}"
    found = session["machine"]
    gpu = f" ({found['gpu']})" if found.get("gpu") else ""
    machine = f"{found['cpu']}, {found['cpus']} cores, {found['device']}{gpu}"
    return f"{machine}; sandbox: {session['sandbox'].get('rung')}", versions
