"""The manifest: where every byte of an export came from.

It holds no time and no path, so that the same inputs and options give the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from exporter.base.checkpoint import CONFIG_FILE, Checkpoint
from exporter.output.workspace import JOURNAL_FILE
from exporter.plan.plan import ExportPlan
from exporter.request import ExportRequest
from exporter.safetensors.header import TensorHeader
from exporter.safetensors.reader import file_sha256
from tinylora import ResolvedOptions
from tinylora.adapters.adapter import Adapter
from tinylora.adapters.options import TrainedOn
from tinylora.adapters.upstream.placement import checked_placement

MANIFEST_FORMAT = "tinylora-export/1"
SUMS_FILE = "SHA256SUMS"
_LIBRARIES = ("torch", "transformers", "bitsandbytes", "safetensors")


@dataclass(frozen=True)
class Provenance:
    """Everything that decides the bytes of an export.

    Attributes:
        tool: Name and version of this tool.
        libraries: Versions of the libraries that compute.
        options: The options, every ``auto`` decided.
        base: Digest and files of the base.
        artifact: Digest and fields of the artifact.
    """

    tool: Mapping[str, str]
    libraries: Mapping[str, str]
    options: Mapping[str, Any]
    base: Mapping[str, Any]
    artifact: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {
            "tool": dict(self.tool),
            "libraries": dict(self.libraries),
            "options": dict(self.options),
            "base": dict(self.base),
            "artifact": dict(self.artifact),
        }

    @property
    def key(self) -> str:
        """Hex digest; on one machine and with one factor store, equal keys mean equal weights.

        Not in it are the LAPACK build, by which exact factors may differ and which the manifest
        names; what a factor store held already; and why something was chosen, which the documents
        tell.
        """
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def collect_provenance(
    request: ExportRequest,
    base: Mapping[str, Any],
    artifact: Adapter,
    resolved: ResolvedOptions | None,
    trained_on: TrainedOn,
) -> Provenance:
    """Put together what decides the output's bytes.

    Args:
        request: What was asked for.
        base: See :func:`base_digests`.
        artifact: The artifact.
        resolved: The delta's options.
        trained_on: What the base's weights were in training.
    """
    return Provenance(
        tool={"name": "tinylora-export", "version": _version("tinylora-export")},
        libraries={name: _version(name) for name in _LIBRARIES},
        options=_options(request, resolved) | {"trained_on": trained_on},
        base=base,
        artifact=artifact.describe(),
    )


def base_digests(base: Checkpoint, files: Mapping[str, str]) -> dict[str, Any]:
    """Digests of a base: of each weight file, of config.json, and of all weights together.

    Args:
        base: The base.
        files: SHA-256 of its weight files, see :meth:`Checkpoint.digests`.

    Raises:
        CheckpointUnreadableError: config.json cannot be read.
    """
    config = file_sha256(base.path / CONFIG_FILE)
    digest = hashlib.sha256(sums_text(files).encode()).hexdigest()
    return {"digest": digest, "config": config, "files": dict(files), "is_4bit": base.is_4bit}


def build_manifest(
    provenance: Provenance,
    plan: ExportPlan,
    *,
    fidelity: Mapping[str, Any],
    lapack: Sequence[str],
    headers: Sequence[TensorHeader],
    digests: Mapping[str, str],
    warnings: Sequence[str],
    choice: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The content of ``export_manifest.json``.

    Args:
        provenance: Inputs, options and versions.
        plan: What was planned, and has been done.
        fidelity: Measures over all modules.
        lapack: Builds that computed the singular vectors.
        headers: Every tensor that was written.
        digests: SHA-256 of every other file of the output.
        warnings: What the user was warned of.
        choice: What the exporter chose itself, and why.
    """
    tensors: dict[str, dict[str, list[Any]]] = {}
    for header in headers:
        tensors.setdefault(header.file, {})[header.name] = [header.dtype, list(header.shape)]
    return {
        "format": MANIFEST_FORMAT,
        **provenance.as_dict(),
        "lapack": sorted(set(lapack)),
        "fidelity": dict(fidelity),
        "warnings": list(warnings),
        "choice": None if choice is None else dict(choice),
        "targets": list(plan.targets),
        "kept_16bit": list(plan.kept),
        "files": dict(sorted(digests.items())),
        "tensors": tensors,
    }


def sums_text(digests: Mapping[str, str]) -> str:
    """``SHA256SUMS`` in the form that ``sha256sum -c`` reads."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def content_sha256(content: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def digest_files(directory: Path, known: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of every visible file below a directory, by relative name.

    Args:
        directory: Where they are.
        known: Digests of files that need not be read for that.
    """
    names = [
        path.relative_to(directory).as_posix()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != JOURNAL_FILE
    ]
    return {name: known.get(name) or file_sha256(directory / name) for name in names}


def _options(request: ExportRequest, resolved: ResolvedOptions | None) -> dict[str, Any]:
    def of_format(option: str) -> Any:  # None where the format does not take it
        return (getattr(request, option) or None) if request.layout.takes(option) else None

    placement = request.options.placement
    return {
        "format": request.format,
        "requantize": of_format("requantize"),
        "calibration_prompts": _digest_of_prompts(request),
        "keep": of_format("keep"),
        "fold_onto": of_format("fold_onto"),
        **{
            name: getattr(resolved, name, None)  # none of them where the adapter stores its factors
            for name in ("formula", "formula_evidence", "rng", "svd", "numerics")
        },
        "placement": None if placement is None else checked_placement(placement),
        "adapter_dtype": of_format("adapter_dtype"),
        "max_shard_size": request.max_shard_size,
        "device": torch.device(request.device).type,
    }


def _digest_of_prompts(request: ExportRequest) -> str | None:
    """Digest of the texts that decided codes; other choices stand in the options themselves."""
    prompts = request.goal.prompts
    if not request.is_calibrated or prompts is None:
        return None
    return file_sha256(prompts)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "not installed"
