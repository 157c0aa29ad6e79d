"""Checks a finished export against its manifest."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from exporter.base.checkpoint import CONFIG_FILE, open_checkpoint, read_json
from exporter.compare.load_check import LogitComparison, check_load, compare_logits
from exporter.compare.prompts import read_prompts
from exporter.compare.retention import Retention, measure_retention
from exporter.documents.read_manifest import read_manifest
from exporter.documents.warnings import LOST
from exporter.documents.write_documents import RETENTION_FILE, SUMS_FILE
from exporter.errors import CheckpointError, OutputWriteError, VerificationError
from exporter.fidelity import LOST_RESIDUAL
from exporter.formats.format import AdapterFormat, Format
from exporter.formats.registry import format_with
from exporter.output.workspace import MANIFEST_FILE, write_whole
from exporter.provenance import base_digests, sums_text
from exporter.request import check_share
from exporter.safetensors.reader import file_sha256
from exporter.safetensors.writer import TensorSpec, file_problems
from exporter.serving import ENGINES, Engine, engine_named, serving_problems
from tinylora import DeltaOptions, load_adapter
from tinylora.errors import ArtifactError, ArtifactMissingError

# What transformers may read of a directory: an adapter_config.json beside it loads another model.
_LOADED = frozenset({".safetensors", ".gguf", ".bin", ".json", ".jinja", ".model", ".py"})
_NO_RECORD = "verify --no-record measures and writes nothing"
PEFT_CHECK = "peft is installed"
_OPTIONS = ("formula", "rng", "svd", "numerics", "placement", "trained_on")


@dataclass(frozen=True)
class Check:
    """One thing that was checked, and what is wrong with it, in words."""

    name: str
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.problems


@dataclass(frozen=True)
class VerifyReport:
    """All checks of one export; ``measured`` is what the manifest says of the delta, in words."""

    directory: Path
    format: str
    checks: tuple[Check, ...]
    measured: str
    warnings: tuple[str, ...]
    logits: LogitComparison | None = None
    retention: Retention | None = None
    engine: Engine | None = None

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)


def verify(
    directory: str | Path,
    *,
    load: bool = False,
    base: str | Path | None = None,
    artifact: str | Path | None = None,
    prompts: str | Path | None = None,
    require_retention: float | None = None,
    record: bool = True,
    float64: bool = False,
    serves: str | None = None,
) -> VerifyReport:
    """Check an export: files, digests, tensors, adapter; on request also that it loads.

    ``load``: with plain transformers, in float32. ``base`` and ``artifact`` make the restored model
    to compare with, on ``prompts`` token by token (:mod:`exporter.compare.prompts`), which implies
    ``load``; in ``float64`` smaller effects show. ``require_retention`` is a check of its own;
    ``record`` writes ``retention.json``.
    ``serves`` names an engine, which must serve what was trained (:mod:`exporter.serving`).

    Raises:
        VerificationError: The directory is no export at all, or the arguments do not go together.
        RequestError: ``require_retention`` is no share, or nothing is known of the engine.
        PromptError: The texts cannot be used.
        OutputWriteError: The export cannot be written, so nothing was recorded.
    """
    directory = Path(directory)
    load = load or prompts is not None
    _check_arguments(load, base, artifact, prompts, require_retention)
    if float64 and prompts is None:
        raise VerificationError("--float64 needs --prompts: texts to compare models on")
    engine = None if serves is None else engine_named(serves)
    manifest = read_manifest(directory)
    layout = format_with(manifest["options"])
    if load and not layout.for_transformers:
        raise VerificationError(f"{directory}: a {layout.name} export does not load by itself")
    checks = [_check_digests(directory, manifest)]
    for file, tensors in manifest["tensors"].items():
        problems = _tensor_problems(directory / file, layout, tensors)
        checks.append(_check(f"tensors of {file}", problems))
    if isinstance(layout, AdapterFormat):
        problems = layout.adapter_problems(directory, manifest["targets"])
        checks.append(_check("adapter would attach", problems))
        if layout.standalone and engine in (None, ENGINES["transformers"]):
            problem = "peft is not installed: transformers would load the base alone"
            checks.append(Check(PEFT_CHECK, () if find_spec("peft") else (problem,)))
    logits = retention = None
    if load and all(check.ok for check in checks):
        checks.append(Check("loads with plain transformers", check_load(directory, layout)))
    if load and base is not None and artifact is not None and all(check.ok for check in checks):
        # a PEFT adapter leaves no choice, so the manifest has none
        known = {name: manifest["options"].get(name) for name in _OPTIONS}
        options = DeltaOptions(**{name: v for name, v in known.items() if v is not None})
        inputs = directory, Path(base), Path(artifact), options
        in_4_bits = layout.stands_on_4_bits
        if prompts is None:
            logits = compare_logits(*inputs, in_4_bits=in_4_bits)
        else:
            texts = read_prompts(Path(prompts), Path(base))
            if record:  # what would hinder that is said before the models run
                _check_inputs(manifest, Path(base), Path(artifact))
                _check_writable(directory)
            retention = measure_retention(*inputs, texts, in_4_bits=in_4_bits, float64=float64)
            if record:
                _record(directory, retention)
            if require_retention is not None:
                shortfall = retention.shortfall(require_retention)
                checks.append(Check("retention", () if shortfall is None else (shortfall,)))
    # what was measured last, by ``verify`` or else by the export itself
    recorded = retention.as_dict() if retention else manifest.get("retention")
    file = directory / RETENTION_FILE
    if retention is None and file.is_file():
        try:
            recorded = read_json(file)
        except CheckpointError as error:
            checks.append(Check(RETENTION_FILE, (str(error),)))
    if engine is not None:  # last: its no hinders no other check
        problems = _serving_problems(directory, engine, layout, manifest, recorded)
        checks.append(_check(f"{engine.name} serves what was trained", problems))
    return VerifyReport(
        directory,
        layout.name,
        tuple(checks),
        _measured(manifest, None if retention else recorded),
        tuple(manifest["warnings"]),
        logits,
        retention,
        engine,
    )


def _record(directory: Path, retention: Retention) -> None:
    """Write what was measured of a finished export to a file of its own."""
    text = json.dumps(retention.as_dict(), indent=1) + "\n"
    try:
        write_whole(directory / RETENTION_FILE, text.encode())
    except OutputWriteError as error:
        raise type(error)(f"{error}; {_NO_RECORD}") from error


def _check_writable(directory: Path) -> None:
    if not os.access(directory, os.W_OK):
        raise OutputWriteError(f"{directory}: may not be written to by this user; {_NO_RECORD}")


def _measured(manifest: Mapping[str, Any], retention: object) -> str:
    """What was recorded of the delta, in words, and of its effect, where that is not known anew."""
    total = manifest["fidelity"]
    shown = ", ".join(f"{name} {total.get(name)}" for name in ("capture", "residual"))
    if not isinstance(retention, dict) or retention.get("retention") is None:
        return f"by the weights: delta {total.get('verdict')}, {shown}"
    on_texts = f"retention {retention['retention']} on {retention.get('tokens')} tokens"
    return f"{on_texts}; of the weights: {shown}"


def _check_arguments(
    load: bool, base: object, artifact: object, prompts: object, require_retention: float | None
) -> None:
    if (base is None) != (artifact is None):
        raise VerificationError("--base and --artifact go together; give both or neither")
    if base is not None and not load:
        raise VerificationError("--base and --artifact need --prompts FILE, or --load")
    if prompts is not None and base is None:
        raise VerificationError("--prompts needs --base and --artifact: what to compare with")
    check_share("--require-retention", require_retention)
    if require_retention is not None and prompts is None:
        raise VerificationError("--require-retention needs --prompts: texts to measure it on")


def _check_inputs(manifest: Mapping[str, Any], base: Path, artifact: Path) -> None:
    """Refuse to record a comparison with something that the export was not made from."""
    opened = open_checkpoint(base)
    digests = base_digests(opened, opened.digests())
    found = (
        ("base", base, digests["digest"], "digest"),
        ("artifact", artifact, load_adapter(artifact).describe()["sha256"], "sha256"),
    )
    for name, path, digest, field in found:
        recorded = manifest[name].get(field)
        if digest != recorded:
            raise VerificationError(
                f"{path}: is not the {name} that the export was made from (digest {digest}, "
                f"recorded {recorded}); give that one, or --no-record"
            )


def _check_digests(directory: Path, manifest: Mapping[str, Any]) -> Check:
    """Every file of the manifest is there with its digest; SHA256SUMS says the same."""
    recorded, files = manifest["files"], manifest["files"].keys()
    found = {name: file_sha256(directory / name) for name in files if (directory / name).is_file()}
    problems = [f"{name} is missing" for name in sorted(files - found.keys())]
    problems += [
        f"{name} has been changed (sha256 {digest}, recorded {recorded[name]})"
        for name, digest in found.items()
        if digest != recorded[name]
    ]
    found[MANIFEST_FILE] = file_sha256(directory / MANIFEST_FILE)
    sums = directory / SUMS_FILE
    if not sums.is_file():
        problems.append(f"{SUMS_FILE} is missing")
    elif not problems and sums.read_bytes() != sums_text(found).encode():
        problems.append(f"{SUMS_FILE} does not agree with the files")
    there = {p.name for p in directory.glob("[!.]*") if p.suffix in _LOADED}
    extra = there - files - {MANIFEST_FILE, RETENTION_FILE}
    problems += [f"{name} is no part of the export" for name in sorted(extra)]
    return Check("files and digests", tuple(problems))


def _check(name: str, problems: Iterator[str]) -> Check:
    """What a search finds; a file that it cannot read is a problem too."""
    found: list[str] = []
    try:
        for problem in problems:
            found.append(problem)  # what was found before an error stays
    except (ArtifactError, ArtifactMissingError, CheckpointError) as error:
        found.append(f"cannot be read: {error}")
    return Check(name, tuple(found))


def _tensor_problems(file: Path, layout: Format, recorded: Mapping[str, Any]) -> Iterator[str]:
    planned = [TensorSpec(name, dtype, tuple(shape)) for name, (dtype, shape) in recorded.items()]
    yield from file_problems(layout.open_file(file), planned)


def _serving_problems(
    directory: Path, engine: Engine, layout: Format, manifest: Mapping[str, Any], retention: object
) -> Iterator[str]:
    """The engine does not know the format, or the delta is not in it, as far as was measured."""
    on_texts = retention.get("output_residual") if isinstance(retention, dict) else None
    if isinstance(on_texts, int | float) and on_texts >= LOST_RESIDUAL:
        yield f"the delta was lost: logits miss {on_texts:.3g} of its effect on texts"
    elif any(warning.startswith(LOST) for warning in manifest["warnings"]):
        yield "the delta was lost in rounding: any engine serves the base"
    config = read_json(directory / CONFIG_FILE) if layout.for_transformers else {}
    yield from serving_problems(engine, layout.name, config, manifest["targets"])
