"""SHA-256 of large files whose content was hashed before.

Model hubs and ``sha256sum`` speak SHA-256, but on a base on which nothing moves it would take
longer than reading, folding and writing together. BLAKE3 (O'Connor et al., 2020) is as strong and
several times as fast. So a store keeps, beside the factors, the SHA-256 of each content by its
BLAKE3: of the weight files of a base, and of what exports have left equal.
"""

import hashlib
import json
from pathlib import Path

from blake3 import blake3

from exporter.data_file import feed, file_sha256
from tinylora.factor_store import FactorStore, read_parsed, write_whole

FORMAT = "tinylora-sha256/1"
_HEX_DIGITS = 64


def sha256_of(path: Path, store: FactorStore | None) -> str:
    """Hex SHA-256 of a file's content, from the store where it has it, else found and stored.

    Args:
        path: The file.
        store: None hashes every time.

    Raises:
        CheckpointUnreadableError: It cannot be read.
        FactorStoreError: The store cannot be used.
    """
    if store is None:
        return file_sha256(path)
    content = blake3()
    feed(path, content)
    key = content.hexdigest()
    found = read_parsed(_entry(store, key), lambda text: _parsed(text, key))
    return _found(path, store) if found is None else found


def _found(path: Path, store: FactorStore) -> str:
    """Both digests from one reading, so that they belong together whatever happens to the file."""
    content, sha256 = blake3(), hashlib.sha256()
    feed(path, content, sha256)
    entry = {"format": FORMAT, "blake3": content.hexdigest(), "sha256": sha256.hexdigest()}
    file = _entry(store, entry["blake3"])
    write_whole(file, lambda temporary: temporary.write_text(json.dumps(entry)))
    return entry["sha256"]


def _entry(store: FactorStore, key: str) -> Path:
    return store.directory / f"sha256-{key[:40]}.json"


def _parsed(text: str, key: str) -> str:
    entry = json.loads(text)
    if (entry["format"], entry["blake3"]) != (FORMAT, key):
        raise ValueError(f"expected {FORMAT} of {key}")
    digest = str(entry["sha256"])
    if len(digest) != _HEX_DIGITS or int(digest, 16) < 0:
        raise ValueError(f"{digest!r} is no SHA-256")
    return digest
