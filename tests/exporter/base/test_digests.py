"""The base is hashed while the export goes on."""

import hashlib
import json
import threading
from dataclasses import replace

import pytest

from exporter import ExportRequest, export
from exporter.base.checkpoint import Checkpoint
from tinylora.errors import TargetMismatchError


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_manifest_names_base_and_output_files_by_their_digests(base, make_artifact, tmp_path):
    request = ExportRequest(base, make_artifact(3e-2), tmp_path / "out", max_shard_size=100_000)
    for format_ in ("nf4", "bf16"):
        report = export(replace(request, format=format_, overwrite=True))
        assert len([n for n in report.files if n.endswith(".safetensors")]) > 1
        assert report.files == {path.name: sha256(path) for path in request.out.iterdir()}
        manifest = json.loads((request.out / "export_manifest.json").read_text())
        assert manifest["base"]["files"] == {
            "model.safetensors": sha256(base / "model.safetensors")
        }


def test_early_error_does_not_wait_for_the_digests(base, make_artifact, run, monkeypatch):
    wait, honest = threading.Event(), Checkpoint.digests
    monkeypatch.setattr(Checkpoint, "digests", lambda base: wait.wait(60) and honest(base))
    with pytest.raises(TargetMismatchError):
        run(base, make_artifact(3e-3, layers=13), "nf4")
    assert not wait.is_set()
    wait.set()
