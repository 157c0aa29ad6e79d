"""Adds what was measured later to a finished export: manifest, model card, digests.

Three files change together. Their new content is first written to one file beside them; from then
on a killed recording is completed by the next one.
"""

import json
from pathlib import Path

from exporter.checkpoint import read_json
from exporter.manifest import SUMS_FILE, content_sha256, sums_text
from exporter.model_card import CARD_FILE, with_retention
from exporter.retention import Retention
from exporter.workspace import MANIFEST_FILE

_PENDING = ".retention-record.json"


def record_retention(directory: Path, retention: Retention) -> None:
    """Write a retention into an export's manifest and model card, and bring the digests up to date.

    Args:
        directory: A finished export whose digests have been checked.
        retention: Replaces an earlier one.

    Raises:
        OSError: The directory cannot be written; the export is as it was.
    """
    card = with_retention((directory / CARD_FILE).read_text(encoding="utf-8"), retention)
    manifest = read_json(directory / MANIFEST_FILE)
    manifest["retention"] = retention.as_dict()
    manifest["files"][CARD_FILE] = content_sha256(card.encode())
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    digests = manifest["files"] | {MANIFEST_FILE: content_sha256(text.encode())}
    contents = {CARD_FILE: card, MANIFEST_FILE: text, SUMS_FILE: sums_text(digests)}
    _replace(directory / _PENDING, json.dumps(contents))
    finish_recording(directory)


def finish_recording(directory: Path) -> None:
    """Complete a recording that was killed half way; does nothing where there is none."""
    pending = directory / _PENDING
    if not pending.is_file():
        return
    for name, text in json.loads(pending.read_text(encoding="utf-8")).items():
        _replace(directory / name, text)
    pending.unlink()


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
