"""Reads the manifest of an export that may come from anywhere: nothing in it is taken on trust."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from exporter.base.checkpoint import read_json
from exporter.documents.write_documents import MANIFEST_FORMAT
from exporter.errors import CheckpointError, VerificationError
from exporter.formats.registry import FORMATS
from exporter.output.workspace import MANIFEST_FILE


def read_manifest(directory: Path) -> Mapping[str, Any]:
    """The manifest of an export, whose fields have the form that an export gives them.

    Raises:
        VerificationError: There is none, or it is of another form.
    """
    file = directory / MANIFEST_FILE
    try:
        manifest = read_json(file)
    except CheckpointError as error:
        raise VerificationError(f"{directory}: no export made by this tool ({error})") from error
    if manifest.get("format") != MANIFEST_FORMAT:
        raise VerificationError(
            f"{file}: format {manifest.get('format')!r:.100}, expected {MANIFEST_FORMAT!r}"
        )
    if bad := [field for field, holds in _FORM.items() if not holds(manifest.get(field))]:
        found = repr(manifest.get(bad[0]))
        raise VerificationError(
            f"{file}: {bad[0]} is {found:.100}, which this tool does not write; export again"
        )
    return manifest


def _are_options(found: object) -> bool:
    return isinstance(found, dict) and found.get("format") in tuple(FORMATS)


def _are_files(found: object) -> bool:
    return isinstance(found, dict) and all(
        _is_below(name) and isinstance(digest, str) for name, digest in found.items()
    )


def _are_tensors(found: object) -> bool:
    return isinstance(found, dict) and all(
        _is_below(file) and isinstance(tensors, dict) and all(map(_is_tensor, tensors.values()))
        for file, tensors in found.items()
    )


def _are_names(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(name, str) for name in found)


def _is_tensor(found: object) -> bool:
    match found:
        case [str(), [*shape]]:
            return all(isinstance(side, int) for side in shape)
    return False


_LONGEST_NAME = 255  # bytes, of one part of a path


def _is_below(name: str) -> bool:
    """Whether a name stays below the directory: no other file is read, or its digest shown."""
    path = PurePosixPath(name)
    parts = path.parts
    fits = all(len(os.fsencode(part)) <= _LONGEST_NAME for part in parts)
    return name not in ("", ".") and not path.is_absolute() and ".." not in parts and fits


_FORM: Mapping[str, Callable[[object], bool]] = {
    "options": _are_options,
    "files": _are_files,
    "tensors": _are_tensors,
    "targets": _are_names,
    "warnings": _are_names,
    "fidelity": lambda found: isinstance(found, dict),
}
