"""Everything that decides the bytes of an export."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from exporter.base.carried_files import side_files
from exporter.base.checkpoint import CONFIG_FILE, Checkpoint
from exporter.errors import reading
from exporter.inputs import Inputs
from exporter.request import ExportRequest
from exporter.safetensors.reader import file_sha256
from tinylora import ResolvedOptions
from tinylora.adapters.upstream.placement import checked_placement
from tinylora.files.digests import files_sha256

_LIBRARIES = ("torch", "transformers", "bitsandbytes", "safetensors")


def collect_provenance(inputs: Inputs) -> dict[str, Any]:
    """What decides the output's bytes, for the manifest; waits for the digests of the base."""
    with reading(inputs.base.path):
        carried = side_files(inputs.base.path, frozenset()).carried
        others = files_sha256(carried.values())
    return {
        "tool": {"name": "tinylora-export", "version": _version("tinylora-export")},
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "options": _options(inputs.request, inputs.deltas.resolved)
        | {"trained_on": inputs.weights.trained_on},
        "base": base_digests(inputs.base, inputs.digests.result())
        # all that may go along, or into a GGUF file, or decide how texts are read
        | {"other_files": others},
        "artifact": inputs.adapter.describe(),
    }


def key_of(provenance: Mapping[str, Any]) -> str:
    """Hex digest; on one machine and with one factor store, equal keys mean equal weights."""
    return hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()


def base_digests(base: Checkpoint, files: Mapping[str, str]) -> dict[str, Any]:
    """Digests of a base: of each weight file, of config.json, and of all weights together."""
    config = file_sha256(base.path / CONFIG_FILE)
    digest = hashlib.sha256(sums_text(files).encode()).hexdigest()
    return {"digest": digest, "config": config, "files": dict(files), "is_4bit": base.is_4bit}


def sums_text(digests: Mapping[str, str]) -> str:
    """Digests in the form that ``sha256sum -c`` reads."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def _options(request: ExportRequest, resolved: ResolvedOptions | None) -> dict[str, Any]:
    def of_format(option: str) -> Any:  # None where the format does not take it
        value = getattr(request, option) if request.layout.takes(option) else None
        return (list(value) or None) if isinstance(value, tuple) else value

    placement, texts = request.options.placement, None
    if request.is_calibrated:  # these decide codes; other choices stand in the options themselves
        texts = request.prompts
    return {
        "format": request.format,
        "requantize": of_format("requantize"),
        "calibration_prompts": None if texts is None else file_sha256(texts),
        "keep": of_format("keep"),
        "fold_onto": of_format("fold_onto"),
        **{
            name: getattr(resolved, name, None)  # none of them where the adapter stores its factors
            for name in ("formula", "formula_evidence", "rng", "svd", "numerics")
        },
        "placement": None if placement is None else checked_placement(placement),
        "adapter_dtype": of_format("adapter_dtype"),
        "gguf_dtype": of_format("gguf_dtype"),
        "max_shard_size": request.max_shard_size,
        "device": torch.device(request.device).type,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "not installed"
