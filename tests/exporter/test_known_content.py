"""SHA-256 of contents that a store has met before: always that of the bytes that are there."""

import hashlib
import json
import logging
import shutil

import pytest

from exporter import ExportRequest, export, known_content
from exporter.checkpoint import open_checkpoint
from exporter.data_file import PIECE_BYTES
from exporter.errors import CheckpointUnreadableError
from exporter.known_content import sha256_of
from exporter.manifest import SUMS_FILE, base_digests
from tinylora import FactorStore
from tinylora.errors import FactorStoreError

LONG = bytes(range(256)) * (PIECE_BYTES // 256) + b"more than one piece"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def store(tmp_path):
    return FactorStore(tmp_path / "store")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(LONG)
    return path


def refuse(path, store):
    raise AssertionError(f"{path} was hashed again")


def test_a_content_is_hashed_once_whatever_its_name(file, store, monkeypatch):
    assert sha256_of(file, store) == sha256(file) == sha256_of(file, None)
    monkeypatch.setattr(known_content, "_found", refuse)
    moved = file.rename(file.with_name("another"))
    assert sha256_of(moved, store) == sha256(moved)
    with pytest.raises(AssertionError, match="hashed again"):
        sha256_of(moved, FactorStore(store.directory / "of another base"))


@pytest.mark.parametrize("place", [0, PIECE_BYTES - 1, PIECE_BYTES, len(LONG) - 1])
def test_another_byte_is_another_content(file, store, place):
    before = sha256_of(file, store)
    content = bytearray(LONG)
    content[place] ^= 1
    file.write_bytes(content)
    assert sha256_of(file, store) == sha256(file) != before
    file.write_bytes(LONG)
    assert sha256_of(file, store) == before


def entry(**changes):
    return lambda text: json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-9],
        lambda text: "[]",
        entry(format="another"),
        entry(blake3="0" * 64),
        entry(sha256="0"),
        entry(sha256="x" * 64),
        entry(sha256=None),
    ],
)
def test_a_damaged_entry_is_made_again(file, store, caplog, damage):
    sha256_of(file, store)
    (kept,) = store.directory.iterdir()
    right = kept.read_text()
    kept.write_text(damage(right))
    with caplog.at_level(logging.WARNING):
        assert sha256_of(file, store) == sha256(file)
    assert "is damaged" in caplog.text
    assert kept.read_text() == right


def test_what_cannot_be_read_or_stored_is_named(file, store, tmp_path):
    with pytest.raises(CheckpointUnreadableError, match=str(tmp_path)):
        sha256_of(tmp_path, store)
    store.directory.write_text("a file")
    with pytest.raises(FactorStoreError, match="store.*choose another directory"):
        sha256_of(file, store)


def request(base, artifact, out, store):
    return ExportRequest(base=base, artifact=artifact, out=out, factor_store=store, overwrite=True)


@pytest.mark.parametrize("four_bit", [True, False])
def test_an_export_that_moves_nothing_hashes_nothing_twice(
    base, base_4bit, make_artifact, tmp_path, store, monkeypatch, four_bit
):
    given, out = base_4bit if four_bit else base, tmp_path / "out"
    artifact = make_artifact(size=1e-9)
    first = export(request(given, artifact, out, store.directory))
    assert all(module.codes_moved == 0 for module in first.fidelity.modules)
    monkeypatch.setattr(known_content, "_found", refuse)
    # another adapter, which leaves the same weights
    export(request(given, make_artifact(size=2e-9), out, store.directory))
    sums = dict(line.split("  ")[::-1] for line in (out / SUMS_FILE).read_text().splitlines())
    assert sums == {path.name: sha256(path) for path in out.iterdir() if path.name != SUMS_FILE}
    assert sums["model.safetensors"] == first.files["model.safetensors"]
    manifest = json.loads((out / "export_manifest.json").read_text())
    assert manifest["base"]["files"] == {"model.safetensors": sha256(given / "model.safetensors")}


def test_a_changed_base_is_not_taken_for_the_known_one(base_4bit, tmp_path, store):
    copy = tmp_path / "base"
    shutil.copytree(base_4bit, copy)
    before = base_digests(open_checkpoint(copy), store)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    after = base_digests(open_checkpoint(copy), store)
    assert after["files"] == {"model.safetensors": sha256(weights)} != before["files"]
    assert after["digest"] != before["digest"]
