"""The base is hashed while the export goes on."""

import threading

import pytest

from exporter.base.checkpoint import Checkpoint
from tinylora.errors import TargetMismatchError


def test_early_error_does_not_wait_for_the_digests(base, make_artifact, run, monkeypatch):
    wait, honest = threading.Event(), Checkpoint.digests
    monkeypatch.setattr(Checkpoint, "digests", lambda base: wait.wait(60) and honest(base))
    with pytest.raises(TargetMismatchError):
        run(base, make_artifact(3e-3, layers=13), "nf4")
    assert not wait.is_set()
    wait.set()
