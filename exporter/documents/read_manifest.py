"""Reads the manifest of an export that may come from anywhere: nothing in it is taken on trust."""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from exporter.base.checkpoint import read_json
from exporter.documents.write_documents import MANIFEST_FORMAT
from exporter.errors import CheckpointError, VerificationError
from exporter.formats.registry import format_named
from exporter.output.workspace import MANIFEST_FILE


def _below(name: str) -> str:
    """Refuse a name above the directory: no other file is read, or its digest shown."""
    path = PurePosixPath(name)
    fits = all(len(os.fsencode(part)) <= 255 for part in path.parts)
    if name in ("", ".") or path.is_absolute() or ".." in path.parts or not fits:
        raise ValueError("no name of a file below the directory")
    return name


_Below = Annotated[str, AfterValidator(_below)]


class _Options(BaseModel):
    format: Annotated[str, AfterValidator(format_named)]


class _Manifest(BaseModel):
    model_config = ConfigDict(strict=True)
    options: _Options
    files: dict[_Below, str]
    tensors: dict[_Below, dict[str, tuple[str, list[int]]]]
    targets: list[str]
    warnings: list[str]
    fidelity: dict[str, Any]
    base: dict[str, Any]
    artifact: dict[str, Any]


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
    try:
        _Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        place = error.errors()[0]["loc"]  # none where the JSON itself is refused
        what = f"{place[0]} is {manifest.get(str(place[0]))!r:.100}" if place else "its JSON is one"
        raise VerificationError(
            f"{file}: {what}, which this tool does not write; export again"
        ) from error
    return manifest
