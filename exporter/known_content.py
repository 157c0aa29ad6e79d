"""SHA-256 of weight files whose content was hashed before.

Model hubs and ``sha256sum`` speak SHA-256, but on a base on which nothing moves it would take
longer than reading, folding and writing together. BLAKE3 (O'Connor et al., 2020) is as strong and
several times as fast. So a store keeps, beside the factors, the SHA-256 of each content by a key:
the BLAKE3 of the file's header and of the digests of its tensors. What is known of a tensor then
need not be hashed again with the file, and an export on which nothing moved knows all of them.
"""

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any, Self

from blake3 import blake3

from exporter.base.checkpoint import Checkpoint
from exporter.progress import Stopwatch
from exporter.safetensors.reader import DataFile
from tinylora.svd.factor_store import FactorStore, read_parsed, write_whole

FORMAT = "tinylora-sha256/1"
_HEX_DIGITS = 64


class ContentReader:
    """:func:`read_content` on a thread of its own; whoever leaves early does not wait for it."""

    def __init__(self) -> None:
        self._pool, self._stop = ThreadPoolExecutor(1), Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._pool.shutdown()

    def submit(
        self,
        watch: Stopwatch,
        base: Checkpoint,
        store: FactorStore | None,
        known: dict[str, bytes],
    ) -> Future[dict[str, str]]:
        """Begin; arguments as for :func:`read_content`, timed as ``hash``."""
        return self._pool.submit(watch.call, "hash", read_content, base, store, known, self._stop)


def read_content(
    base: Checkpoint,
    store: FactorStore | None,
    known: dict[str, bytes] | None = None,
    stop: Event | None = None,
) -> dict[str, str]:
    """Hash all weight files of a base, in one reading at most where their content is known.

    Args:
        base: The base.
        store: None hashes with SHA-256 alone.
        known: BLAKE3 of tensors that need not be hashed again, see
            :meth:`exporter.safetensors.reader.DataFile.tensor_digests`.
        stop: Set by whoever needs the result no longer.

    Returns:
        SHA-256 of each file, hex.

    Raises:
        CheckpointUnreadableError: A file cannot be read, or has changed since it was opened.
        FactorStoreError: The store cannot be used.
        CancelledError: It was stopped.
    """
    files = {name: base.files[name] for name in base.shards}
    if store is None:
        return {name: file.sha256(stop) for name, file in files.items()}
    return {
        name: sha256_of(file, file.tensor_digests(known, stop), store, stop)
        for name, file in files.items()
    }


def sha256_of(
    file: DataFile, digests: Mapping[str, bytes], store: FactorStore, stop: Event | None = None
) -> str:
    """Hex SHA-256 of a file, from the store where it has its content, else found and stored.

    Args:
        file: The file.
        digests: BLAKE3 of each of its tensors.
        store: Knows contents.
        stop: As for :func:`read_content`.

    Raises:
        CheckpointUnreadableError: The file cannot be read, or has changed since it was opened.
        FactorStoreError: The store cannot be used.
        CancelledError: It was stopped.
    """
    key = content_key(file.header(), digests)
    entry = store.directory / f"sha256-{key[:40]}.json"
    found = read_parsed(entry, lambda text: _parsed(text, key))
    if found is None:
        found = file.sha256(stop)
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
