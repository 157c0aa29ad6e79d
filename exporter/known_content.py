"""SHA-256 of weight files whose content was hashed before.

Model hubs and ``sha256sum`` speak SHA-256, but on a base on which nothing moves it would take
longer than reading, folding and writing together. BLAKE3 (O'Connor et al., 2020) is as strong and
several times as fast. So a store keeps, beside the factors, the SHA-256 of each content by a key:
the BLAKE3 of the file's header and of the digests of its tensors. What is known of a tensor then
need not be hashed again with the file, and an export on which nothing moved knows all of them.
"""

import json
from collections.abc import Mapping
from typing import Any

from blake3 import blake3

from exporter.checkpoint import Checkpoint
from exporter.data_file import DataFile
from tinylora.factor_store import FactorStore, read_parsed, write_whole

FORMAT = "tinylora-sha256/1"
_HEX_DIGITS = 64


def read_content(
    base: Checkpoint, store: FactorStore | None, known: dict[str, bytes] | None = None
) -> dict[str, str]:
    """Hash all weight files of a base, in one reading at most where their content is known.

    Args:
        base: The base.
        store: None hashes with SHA-256 alone.
        known: BLAKE3 of tensors that need not be hashed again, see
            :meth:`exporter.data_file.DataFile.tensor_digests`.

    Returns:
        SHA-256 of each file, hex.

    Raises:
        CheckpointUnreadableError: A file cannot be read, or has changed since it was opened.
        FactorStoreError: The store cannot be used.
    """
    if store is None:
        return {name: base.files[name].sha256() for name in base.shards}
    return {
        name: sha256_of(base.files[name], base.files[name].tensor_digests(known), store)
        for name in base.shards
    }


def sha256_of(file: DataFile, digests: Mapping[str, bytes], store: FactorStore) -> str:
    """Hex SHA-256 of a file, from the store where it has its content, else found and stored.

    Args:
        file: The file.
        digests: BLAKE3 of each of its tensors.
        store: Knows contents.

    Raises:
        CheckpointUnreadableError: The file cannot be read, or has changed since it was opened.
        FactorStoreError: The store cannot be used.
    """
    key = content_key(file.header(), digests)
    entry = store.directory / f"sha256-{key[:40]}.json"
    found = read_parsed(entry, lambda text: _parsed(text, key))
    if found is None:
        found = file.sha256()
        text = json.dumps({"format": FORMAT, "content": key, "sha256": found})
        write_whole(entry, lambda temporary: temporary.write_text(text))
    return found


def content_key(header: bytes, digests: Mapping[str, bytes]) -> str:
    """Names the content of a safetensors file, in which data follow the header without gaps.

    Args:
        header: What lies before the data.
        digests: BLAKE3 of each tensor.
    """
    key = blake3(len(header).to_bytes(8, "little") + header)
    for name in sorted(digests):
        key.update(digests[name])
    return key.hexdigest()


def _parsed(text: str, key: str) -> str:
    entry: Any = json.loads(text)
    if (entry["format"], entry["content"]) != (FORMAT, key):
        raise ValueError(f"expected {FORMAT} of {key}")
    digest = str(entry["sha256"])
    if len(digest) != _HEX_DIGITS or int(digest, 16) < 0:
        raise ValueError(f"{digest!r} is no SHA-256")
    return digest
