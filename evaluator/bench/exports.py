"""Exports of a bench: which are there, and how a missing one is made.

The exporter is another program and runs as one: ``python -m exporter merge``. What an export is
made from (digests of base, artifact and texts, and the options) is written down before it starts,
after an outdated one has been removed. So whatever lies there was made from what the request says,
also if the bench, but not the exporter, was killed meanwhile.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.bench.plan import Export, restored_arm
from evaluator.errors import BenchError
from evaluator.generation.checkpoints import Checkpoint, file_digest, find_checkpoint
from evaluator.generation.models import check_adapter
from tinylora.files.whole_file import replace_file

_EXPORTER = (sys.executable, "-m", "exporter")
_MANIFEST = "export_manifest.json"
_LOG_LINES = 6  # of the exporter's last words, in an error
_LOG_COLUMNS = "160"
_OPTIONS = (
    "requantize",
    "prompts",
    "check_prompts",
    "target_residual",
    "max_bytes",
    "fold_onto",
    "adapter_dtype",
    "require_capture",
    "require_retention",
    "max_shard_size",
)


@dataclass(frozen=True)
class Request:
    """What an export is made from.

    Attributes:
        base: Directory of the base; its path is not part of what decides.
        inputs: Digests and options, everything that decides the export.
    """

    base: Path
    inputs: dict[str, Any]


def request_of(export: Export) -> Request:
    """Find the inputs of an export and digest them.

    Raises:
        ModelError: Base or artifact is missing, or they do not fit each other.
        BenchError: A file of texts is missing.
    """
    arm = restored_arm(export.base, export.artifact)
    found: Checkpoint = find_checkpoint(arm)
    check_adapter(arm, found)
    texts = {}
    for field in ("prompts", "check_prompts"):
        path: Path | None = getattr(export.format, field)
        if path is not None and not path.is_file():
            raise BenchError(f"formats.{export.format.name}.{field}: no file {path}")
        texts[field] = path and file_digest(path)
    options = {name: value for name, value in _options(export) if name not in texts}
    inputs = {
        "base": found.digest,
        "artifact": found.artifact_digest,
        **texts,
        "options": options,
    }
    return Request(found.directory, inputs)


def why_not_there(export: Export, request: Request) -> str:
    """Why the export has to be made; empty where it is complete and made from these inputs."""
    if not export.out.exists():
        return "missing"
    earlier = _read(export.request)
    if earlier is None:
        return "made from inputs that are not known"
    changed = [name for name, value in request.inputs.items() if earlier.get(name) != value]
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


def make_export(export: Export, request: Request, factors: Path) -> None:
    """Run the exporter.

    Args:
        export: What to make.
        request: Its inputs.
        factors: Directory of SVD factors.

    Raises:
        BenchError: The exporter failed, or an input changed while it worked.
    """
    for path in (export.request, export.log, export.out):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(export.root) as lock:
        if not why_not_there(export, request):
            return  # an exporter of a killed bench has finished it
        if (export.out / _MANIFEST).is_file():
            # moved first: what is left of a removal that was killed must not look like an output
            old = export.root / "exports" / ".replaced"
            shutil.rmtree(old, ignore_errors=True)
            export.out.rename(old)
            shutil.rmtree(old)
        replace_file(export.request, json.dumps(request.inputs, indent=1).encode() + b"\n")
        command = _command(export, request, factors)
        with export.log.open("wb") as log:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "COLUMNS": _LOG_COLUMNS},
                pass_fds=(lock,),
                check=False,
            )
    if done.returncode:
        raise BenchError(
            f"export {export.name}: the exporter ended with {done.returncode}: "
            f"{_last_words(export.log)} (all of it: {export.log})"
        )
    if reason := why_not_there(export, request_of(export)):
        raise BenchError(f"export {export.name}: not usable after it was made: {reason}")


def _options(export: Export) -> Iterator[tuple[str, str | None]]:
    """The exporter's options, without base, artifact and output: name and text, None for a flag."""
    yield "format", export.format.format
    for name in ("formula", "rng", "numerics", "trained_on"):
        yield name, str(getattr(export.artifact, name))
    if export.artifact.placement is not None:
        yield "placement", json.dumps(export.artifact.placement)
    for name in _OPTIONS:
        if (value := getattr(export.format, name)) is not None:
            yield name, str(value)
    if export.format.without_peft:
        yield "without_peft", None


def _command(export: Export, request: Request, factors: Path) -> list[str]:
    command = [
        *_EXPORTER,
        "merge",
        "--base",
        str(request.base),
        "--artifact",
        str(export.artifact.path),
    ]
    command += ["--out", str(export.out), "--factor-store", str(factors)]
    for name, value in _options(export):
        flag = f"--{name.replace('_', '-')}"
        command += [flag] if value is None else [flag, value]
    return command


@contextmanager
def _alone(root: Path) -> Iterator[int]:
    """Wait until no exporter of this bench runs; gives the lock for the next one to hold.

    A lock lives as long as any process has it: where a bench is killed and its exporter is not,
    the next bench waits for it here.
    """
    with (root / "exports" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " ".join(line.strip() for line in lines[-_LOG_LINES:]) or "it said nothing"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
