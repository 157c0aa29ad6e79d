"""Exports of a bench: which are there, and how a missing one is made by the exporter.

What an export is made from is written down before it starts, after an outdated one was removed: so
whatever lies there was made from it, also if the bench, but not the exporter, was killed meanwhile.
"""

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluator.bench.plan import Export, restored_arm
from evaluator.errors import BenchError
from evaluator.generation.checkpoints import file_digest, find_checkpoint
from tinylora.files.json_text import read_object
from tinylora.files.whole_file import replace_file
from tinylora.models.find_model import find_model

_EXPORTER = (sys.executable, "-m", "exporter")
_MANIFEST = "export_manifest.json"


def inputs_of(export: Export) -> dict[str, Any]:
    """What decides an export: digests of base, artifact and texts, and options."""
    facts = find_checkpoint(restored_arm(export.base, export.artifact)).facts
    texts = {}
    for field in ("prompts", "check_prompts"):
        path: Path | None = getattr(export.format, field)
        if path is not None and not path.is_file():
            raise BenchError(f"formats.{export.format.name}.{field}: no file {path}")
        texts[field] = path and file_digest(path)
    options = {name: value for name, value in _options(export).items() if name not in texts}
    digests = {"base": facts.digest, "artifact": facts.artifact_digest, **texts}
    return {**digests, "options": options}


def why_not_there(export: Export, inputs: Mapping[str, Any]) -> str:
    """Why the export has to be made; empty where it is complete and made from these inputs."""
    if not export.out.exists():
        return "missing"
    earlier = _read(export.request)
    if earlier is None:
        return "made from inputs that are not known"
    changed = [name for name, value in inputs.items() if earlier.get(name) != value]
    if changed:
        return f"changed: {', '.join(changed)}"
    manifest = _read(export.out / _MANIFEST)
    if manifest is None or not isinstance(files := manifest.get("files"), dict):
        return f"its {_MANIFEST} cannot be read"
    damaged = [
        name
        for name, digest in files.items()
        if not (path := export.out / name).is_file() or file_digest(path) != digest
    ]
    return f"damaged: {', '.join(damaged[:3])}" if damaged else ""


def make_export(export: Export) -> None:
    """Run the exporter, unless the export is there.

    BenchError where it fails or an input changed while it worked.
    """
    inputs = inputs_of(export)
    for path in (export.request, export.log, export.out):
        path.parent.mkdir(parents=True, exist_ok=True)
    with export.lock.open("w") as lock:
        # Held by the exporter too: one that outlives its bench is waited for by the next.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not why_not_there(export, inputs):
            return
        if (export.out / _MANIFEST).is_file():
            # moved first: what is left of a removal that was killed must not look like an output
            old = export.lock.with_name(".replaced")
            shutil.rmtree(old, ignore_errors=True)
            export.out.rename(old)
            shutil.rmtree(old)
        replace_file(export.request, json.dumps(inputs, indent=1).encode() + b"\n")
        with export.log.open("wb") as log:
            done = subprocess.run(
                _command(export),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=(lock.fileno(),),
                check=False,
            )
    if done.returncode:
        try:
            why = json.loads(done.stdout)["error"]["message"]
        except (ValueError, KeyError, TypeError):  # a killed exporter prints nothing
            why = "it gave no reason"
        raise BenchError(
            f"export {export.name}: the exporter ended with {done.returncode}: {why} (its log: "
            f"{export.log})"
        )
    if reason := why_not_there(export, inputs_of(export)):
        raise BenchError(f"export {export.name}: not usable after it was made: {reason}")


def _options(export: Export) -> dict[str, Any]:
    """The exporter's options, without base, artifact and output, named as its command line has."""
    chosen = {**dict(export.artifact), **dict(export.format)}
    for name in ("name", "path"):
        del chosen[name]
    if chosen["placement"] is not None:
        chosen["placement"] = json.dumps(chosen["placement"])
    return {
        name: None if value is True else str(value)
        for name, value in chosen.items()
        if value is not None and value is not False
    }


def _command(export: Export) -> list[str]:
    command = [*_EXPORTER, "merge", "--json", "--base", str(find_model(export.base.model))]
    command += ["--artifact", str(export.artifact.path), "--out", str(export.out)]
    command += ["--factor-store", str(export.factors)]
    for name, value in _options(export).items():
        command.append(f"--{name.replace('_', '-')}")
        command += [] if value is None else [value]
    return command


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_object(path, BenchError)
    except (OSError, BenchError):
        return None
