"""Reads the manifest of an export that may come from anywhere: nothing in it is taken on trust."""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from exporter.base.checkpoint import read_json
from exporter.documents.write_documents import MANIFEST_FORMAT
from exporter.errors import CheckpointError, VerificationError
from exporter.formats.registry import FORMATS
from exporter.output.workspace import MANIFEST_FILE

_FIELDS = ("options", "files", "tensors", "targets", "warnings", "fidelity")


def read_manifest(directory: Path) -> Mapping[str, Any]:
    """The manifest of an export, in its form; VerificationError if there is none."""
    file = directory / MANIFEST_FILE
    try:
        manifest = read_json(file)
    except CheckpointError as error:
        raise VerificationError(f"{directory}: no export made by this tool ({error})") from error
    if manifest.get("format") != MANIFEST_FORMAT:
        raise VerificationError(
            f"{file}: format {manifest.get('format')!r:.100}, expected {MANIFEST_FORMAT!r}"
        )
    if bad := [field for field in _FIELDS if not _has_form(field, manifest.get(field))]:
        found = repr(manifest.get(bad[0]))
        raise VerificationError(
            f"{file}: {bad[0]} is {found:.100}, which this tool does not write; export again"
        )
    return manifest


def _has_form(field: str, found: object) -> bool:
    """Whether a field is what an export writes there."""
    match field, found:
        case "options", {"format": str(name)}:
            return name in FORMATS
        case "files", dict():
            return all(_is_below(name) and isinstance(sum_, str) for name, sum_ in found.items())
        case "tensors", dict():
            return all(map(_is_below, found)) and all(
                isinstance(tensors, dict) and all(map(_is_tensor, tensors.values()))
                for tensors in found.values()
            )
        case "targets" | "warnings", list():
            return all(isinstance(name, str) for name in found)
    return field == "fidelity" and isinstance(found, dict)


def _is_tensor(found: object) -> bool:
    match found:
        case [str(), [*shape]]:
            return all(isinstance(side, int) for side in shape)
    return False


def _is_below(name: str) -> bool:
    """Whether a name stays below the directory: no other file is read, or its digest shown."""
    path = PurePosixPath(name)
    fits = all(len(os.fsencode(part)) <= 255 for part in path.parts)
    return name not in ("", ".") and not path.is_absolute() and ".." not in path.parts and fits
