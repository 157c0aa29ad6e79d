"""Adds what was measured later to a finished export: manifest, model card, digests.

Three files change together. Their new content is first written to one file beside them; from then
on a killed recording is completed by the next one.
"""

import json
from pathlib import Path

from exporter.base.checkpoint import read_json
from exporter.compare.retention import Retention
from exporter.documents.manifest import SUMS_FILE, content_sha256
from exporter.documents.model_card import CARD_FILE, with_retention
from exporter.errors import OutputWriteError, VerificationError
from exporter.io_errors import write_error
from exporter.output.workspace import MANIFEST_FILE, write_whole
from exporter.provenance import sums_text

_PENDING = ".retention-record.json"
_FILES = frozenset({CARD_FILE, MANIFEST_FILE, SUMS_FILE})


def record_retention(directory: Path, retention: Retention) -> None:
    """Write a retention into an export's manifest and model card, and bring the digests up to date.

    Args:
        directory: A finished export whose digests have been checked.
        retention: Replaces an earlier one.

    Raises:
        OutputWriteError: The directory cannot be written; the export is as it was, or the next
            recording completes it.
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
    """Complete a recording that was killed half way; does nothing where there is none.

    Raises:
        OutputWriteError: The directory cannot be written.
        VerificationError: What lies there was not written by :func:`record_retention`.
    """
    pending = directory / _PENDING
    if not pending.is_file():
        return
    for name, text in _contents(pending).items():
        _replace(directory / name, text)
    try:
        pending.unlink()
    except OSError as error:
        raise write_error(error, pending) from error


def unfinished(directory: Path) -> bool:
    """Whether a recording was killed half way."""
    return (directory / _PENDING).is_file()


def _contents(pending: Path) -> dict[str, str]:
    """New text of the three files. The export may come from anywhere: no other name is written."""
    try:
        contents = json.loads(pending.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VerificationError(f"{pending}: cannot be read ({error}); remove it") from error
    if (
        not isinstance(contents, dict)
        or contents.keys() != _FILES
        or not all(isinstance(text, str) for text in contents.values())
    ):
        raise VerificationError(
            f"{pending}: expected the texts of {', '.join(sorted(_FILES))}; it is not from this "
            "tool, remove it"
        )
    return contents


def _replace(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OutputWriteError as error:
        raise type(error)(f"{error}; verify --no-record measures and writes nothing") from error
