"""SHA-256 of contents that a store has met before: always that of the bytes that are there."""

import hashlib
import importlib
import json
import logging
import os
import shutil
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from blake3 import blake3
from safetensors.torch import save_file

from exporter import ExportRequest, export
from exporter.base.checkpoint import open_checkpoint
from exporter.documents.manifest import SUMS_FILE
from exporter.errors import CheckpointUnreadableError
from exporter.known_content import read_content, sha256_of
from exporter.safetensors import reader as data_file
from exporter.safetensors.header import checked_data_file
from exporter.safetensors.reader import PIECE_BYTES, DataFile
from tinylora import FactorStore
from tinylora.errors import FactorStoreError, TargetMismatchError
from tinylora.weights.tensor_bytes import tensor_digest

export_module = importlib.import_module("exporter.export")  # the package has a function of its name
SIZE = 2 * PIECE_BYTES + 37


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def store(tmp_path):
    return FactorStore(tmp_path / "store")


def tensors():
    return {
        "long": torch.arange(SIZE).mul(37).to(torch.uint8),
        "other": torch.ones(3),
        "none": torch.empty(0),
    }


@pytest.fixture
def path(tmp_path):
    save_file(tensors(), tmp_path / "weights")
    return tmp_path / "weights"


def found(path, store):
    file = checked_data_file(path)
    return sha256_of(file, file.tensor_digests(), store)


def stored(directory, name):
    file = open_checkpoint(directory).file_of(name)
    begin, end = file.places[name]
    return file.path.read_bytes()[begin:end]


def refuse(file, stop=None):
    raise AssertionError(f"{file.path} was hashed again")


def test_digests_are_those_of_the_bytes(path):
    digests = checked_data_file(path).tensor_digests()
    wanted = {name: blake3(t.numpy().tobytes()).digest() for name, t in tensors().items()}
    assert digests == wanted == {name: tensor_digest(t) for name, t in tensors().items()}


def test_known_digests_are_not_found_again_and_the_others_added(path):
    wanted = checked_data_file(path).tensor_digests()
    known = {"long": b"known", "of another file": b"kept"}
    found = checked_data_file(path).tensor_digests(known)
    assert found == wanted | {"long": b"known"}
    assert known == found | {"of another file": b"kept"}


def test_only_what_is_unknown_is_read_to_be_hashed(base_4bit, store, monkeypatch):
    hashed = []
    honest = DataFile._digest

    def noted(file, descriptor, name, room):
        hashed.append(name)
        return honest(file, descriptor, name, room)

    monkeypatch.setattr(DataFile, "_digest", noted)
    known = {name: b"0" for name in open_checkpoint(base_4bit).tensors}
    first, *others = known
    known.pop(first)
    read_content(open_checkpoint(base_4bit), store, known)
    assert hashed == [first]
    assert known[first] == blake3(stored(base_4bit, first)).digest()
    assert all(known[name] == b"0" for name in others)


@pytest.mark.parametrize("four_bit", [True, False])
def test_digests_found_in_passing_are_those_of_the_base(
    base, base_4bit, make_artifact, tmp_path, store, monkeypatch, four_bit
):
    """Whoever finds them: here the thread that hashes finds none before the export is made."""
    given = base_4bit if four_bit else base
    found = {}
    honest = DataFile.tensor_digests

    def late(file, known=None, stop=None):
        if known is not None and wait.wait(60):
            found.update(known)
        return honest(file, known)

    wait = threading.Event()
    made = export_module._write_file

    def made_first(*arguments):
        written = made(*arguments)
        wait.set()
        return written

    monkeypatch.setattr(DataFile, "tensor_digests", late)
    monkeypatch.setattr(export_module, "_write_file", made_first)
    export(request(given, make_artifact(1e-9), tmp_path / "out", store.directory))
    assert found
    for name, digest in found.items():
        assert digest == blake3(stored(given, name)).digest()
    carried = {name for name in open_checkpoint(given).tensors if not name.endswith("proj.weight")}
    assert set(found) == (set(open_checkpoint(given).tensors) if four_bit else carried)


def test_a_content_is_hashed_once_whatever_its_name(path, store, monkeypatch):
    assert found(path, store) == sha256(path)
    monkeypatch.setattr(DataFile, "sha256", refuse)
    moved = path.rename(path.with_name("another"))
    assert found(moved, store) == sha256(moved)
    with pytest.raises(AssertionError, match="hashed again"):
        found(moved, FactorStore(store.directory / "of another base"))


@pytest.mark.parametrize("place", [0, PIECE_BYTES - 1, PIECE_BYTES, SIZE - 1])
def test_another_byte_is_another_content(path, store, place):
    before = found(path, store)
    changed = tensors()
    changed["long"][place] ^= 1
    save_file(changed, path)
    assert found(path, store) == sha256(path) != before
    save_file(tensors(), path)
    assert found(path, store) == before


@pytest.mark.parametrize("swap", ["names", "metadata", "dtype"])
def test_another_header_is_another_content(path, store, swap):
    before, same = found(path, store), tensors()
    if swap == "names":
        same = {"gnol" if name == "long" else name: tensor for name, tensor in same.items()}
    if swap == "dtype":
        same["other"] = same["other"].view(torch.int32)
    save_file(same, path, metadata={"format": "pt"} if swap == "metadata" else None)
    assert found(path, store) == sha256(path) != before


def test_two_tensors_changed_about_are_another_content(tmp_path, store):
    one, other = torch.zeros(4), torch.ones(4)
    save_file({"a": one, "b": other}, tmp_path / "1")
    save_file({"a": other, "b": one}, tmp_path / "2")
    assert found(tmp_path / "1", store) != found(tmp_path / "2", store) == sha256(tmp_path / "2")


def entry(**changes):
    return lambda text: json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-9],
        lambda text: "[]",
        entry(format="another"),
        entry(content="0" * 64),
        entry(sha256="0"),
        entry(sha256="x" * 64),
        entry(sha256=None),
    ],
)
def test_a_damaged_entry_is_made_again(path, store, caplog, damage):
    found(path, store)
    (kept,) = store.directory.iterdir()
    right = kept.read_text()
    kept.write_text(damage(right))
    with caplog.at_level(logging.WARNING):
        assert found(path, store) == sha256(path)
    assert "is damaged" in caplog.text
    assert kept.read_text() == right


def test_a_store_that_cannot_be_used_is_named(path, store):
    store.directory.write_text("a file")
    with pytest.raises(FactorStoreError, match="store.*choose another directory"):
        found(path, store)


def test_a_file_that_changes_while_it_is_digested_is_an_error(path):
    file = checked_data_file(path)
    os.utime(path, ns=(0, file.modified_ns + 1))
    with pytest.raises(CheckpointUnreadableError, match="written to"):
        file.tensor_digests()


def request(base, artifact, out, store):
    return ExportRequest(base=base, artifact=artifact, out=out, factor_store=store, overwrite=True)


def sums_of(out):
    return dict(line.split("  ")[::-1] for line in (out / SUMS_FILE).read_text().splitlines())


@pytest.mark.parametrize("format_", ["nf4", "nf4-embedded", "bf16", "fp16"])
def test_every_digest_is_that_of_the_file_whatever_came_before(
    base, base_4bit, make_artifact, tmp_path, store, format_
):
    for given in (base, base_4bit):
        for size in (1e-9, 3e-2, 5e-2, 1e-9):
            out = tmp_path / "out"
            wanted = request(given, make_artifact(size), out, store.directory)
            export(replace(wanted, format=format_))
            assert sums_of(out) == {
                path.name: sha256(path) for path in out.iterdir() if path.name != SUMS_FILE
            }


@pytest.mark.parametrize("four_bit", [True, False])
def test_an_export_that_moves_nothing_hashes_nothing_twice(
    base, base_4bit, make_artifact, tmp_path, store, monkeypatch, four_bit
):
    given, out = base_4bit if four_bit else base, tmp_path / "out"
    artifact = make_artifact(size=1e-9)
    first = export(request(given, artifact, out, store.directory))
    assert all(module.codes_moved == 0 for module in first.fidelity.modules)
    monkeypatch.setattr(DataFile, "sha256", refuse)
    # another adapter, which leaves the same weights
    export(request(given, make_artifact(size=2e-9), out, store.directory))
    assert sums_of(out)["model.safetensors"] == first.files["model.safetensors"]
    manifest = json.loads((out / "export_manifest.json").read_text())
    assert manifest["base"]["files"] == {"model.safetensors": sha256(given / "model.safetensors")}


def test_a_changed_base_is_not_taken_for_the_known_one(base_4bit, tmp_path, store):
    copy = tmp_path / "base"
    shutil.copytree(base_4bit, copy)
    tensors_before, tensors_after = {}, {}
    before = read_content(open_checkpoint(copy), store, tensors_before)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    after = read_content(open_checkpoint(copy), store, tensors_after)
    assert after == {"model.safetensors": sha256(weights)} != before
    assert after == read_content(open_checkpoint(copy), None)
    assert tensors_after.keys() == tensors_before.keys()
    assert sum(tensors_after[name] != tensors_before[name] for name in tensors_before) == 1


@pytest.mark.parametrize("kept", [False, True])
def test_hashing_ends_when_nobody_needs_it(base, tmp_path, kept):
    stop, known = threading.Event(), {}
    stop.set()
    with pytest.raises(CancelledError):
        read_content(open_checkpoint(base), FactorStore(tmp_path) if kept else None, known, stop)
    assert known == {}


def test_an_early_error_does_not_wait_for_the_hash(base, make_artifact, run, monkeypatch):
    pieces = []

    class Slow:
        """SHA-256 of a large base on a slow disk, simulated."""

        def update(self, piece):
            pieces.append(len(piece))
            time.sleep(0.01)

        def hexdigest(self):
            return ""

    monkeypatch.setattr(data_file, "PIECE_BYTES", 256)
    monkeypatch.setattr(data_file, "hashlib", SimpleNamespace(sha256=Slow))
    with pytest.raises(TargetMismatchError):
        run(base, make_artifact(3e-3, layers=13), "nf4")
    whole = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    assert 0 < sum(pieces) < whole
