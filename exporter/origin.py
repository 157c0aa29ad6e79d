"""What the manifest of an earlier export says of a directory that is used as adapter or base."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.checkpoint import Checkpoint, read_json
from exporter.errors import CheckpointError
from exporter.workspace import MANIFEST_FILE
from tinylora import Artifact
from tinylora.adapter import Adapter


def trained_on_16bit(adapter: Adapter) -> bool:
    """Whether training had the base in 16 bits, as PEFT's has, and not in 4, as upstream's has.

    A PEFT adapter that an export made from upstream's artifact was trained as that was.
    """
    if isinstance(adapter, Artifact):
        return adapter.is_quantized is False
    artifact = _manifest(adapter.path).get("artifact")
    return not isinstance(artifact, dict) or artifact.get("dialect") == "peft"


def refuse_merged(adapter: Adapter, base: Checkpoint) -> None:
    """Refuse a base that is an earlier export of the same adapter: it would be added twice.

    One in which nothing of the delta was stored is still the base.

    Raises:
        CheckpointError: It is.
    """
    manifest = _manifest(base.path)
    artifact, fidelity = manifest.get("artifact"), manifest.get("fidelity")
    if not isinstance(artifact, dict) or artifact.get("sha256") != adapter.sha256:
        return
    if not isinstance(fidelity, dict) or fidelity.get("capture"):
        raise CheckpointError(
            f"{base.path / MANIFEST_FILE}: the base is an export that has this adapter "
            f"(sha256 {adapter.sha256[:16]}...) in it, and it would be added a second time; give "
            "the base that it was trained on"
        )


def _manifest(directory: Path) -> Mapping[str, Any]:
    """The manifest of an export; empty where there is none."""
    try:
        return read_json(directory / MANIFEST_FILE)
    except CheckpointError:
        return {}
