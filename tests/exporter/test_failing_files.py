"""Full disks, directories that may not be written, reads that fail: words, never tracebacks.

What fails here fails for real (a tmpfs of one megabyte, a read-only mount, limits, directories of
the kernel); reads from a network file system that goes away are simulated and say so.
"""

import errno
import itertools
import os
import resource
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter import ExportRequest, export
from exporter.compare.retention import Reference
from exporter.errors import (
    CheckpointError,
    CheckpointUnreadableError,
    DiskFullError,
    OutputWriteError,
)
from tests.exporter.conftest import content
from tinylora.errors import FactorStoreError, ScratchError

SHARD = 15_000


@contextmanager
def file_limit(size):
    """In here no file may grow beyond so many bytes; those that pytest itself writes neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def before_reads(monkeypatch):
    """``before_reads(directory, action)``: each read of its files is preceded by ``action(n)``.

    n is 1, 2, ... Whatever threads do meanwhile, that very read comes after.
    """

    def install(directory, action):
        real, counted, lock = os.preadv, itertools.count(1), threading.Lock()

        def preadv(handle, buffers, offset):
            if Path(f"/proc/self/fd/{handle}").readlink().parent == directory:
                with lock:
                    action(next(counted))
            return real(handle, buffers, offset)

        monkeypatch.setattr(os, "preadv", preadv)

    yield install
    monkeypatch.undo()


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 9_000, 60_000])
def test_no_room_at_several_places(size, base, artifact, tmp_path):
    """100: the first shard; then documents, journal, larger shards."""
    fields = {"format": "fp32", "max_shard_size": SHARD}
    whole = export(ExportRequest(base, artifact, tmp_path / "whole", **fields)).out
    request = ExportRequest(base, artifact, tmp_path / "out", **fields)
    with (
        pytest.raises(DiskFullError, match="no room left.*same command") as full,
        file_limit(size),
    ):
        export(request)
    assert str(tmp_path / "out") in str(full.value)
    assert not request.out.exists()
    export(request)
    assert content(request.out) == content(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "whole"]


@pytest.mark.parametrize(
    ("size", "read_only", "words"),
    [
        ("300k", False, "the export needs"),
        ("2m", True, "cannot be written (Read-only file system)"),
    ],
    ids=["too small", "read-only"],
)
def test_file_systems_that_refuse(size, read_only, words, server, base, artifact, tmp_path):
    disk, stderr = tmp_path / "disk", tmp_path / "stderr"
    disk.mkdir()
    merge = ["merge", "--base", str(base), "--artifact", str(artifact), "--format", "fp32"]
    asked = {"disk": str(disk), "size": size, "read_only": read_only, "stderr": str(stderr)}
    status = server.run(asked | {"arguments": [*merge, "--out", str(disk / "out")]})
    if os.WEXITSTATUS(status) == 77:
        pytest.skip("this machine lets no one mount a tmpfs in a namespace of their own")
    said = stderr.read_text()
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 2, said
    assert words in said and str(disk / "out") in said and "Traceback" not in said


@pytest.mark.parametrize("below", ["/proc/self", "a file"])
def test_targets_that_cannot_be_made(below, base, artifact, tmp_path):
    (tmp_path / "a file").write_text("")
    out = tmp_path / below / "out"
    with pytest.raises(OutputWriteError, match="cannot be written.*another directory"):
        export(ExportRequest(base, artifact, out))
    with pytest.raises(FactorStoreError, match="factor store.*another directory"):
        export(ExportRequest(base, artifact, tmp_path / "out", factor_store=out))
    assert [p.name for p in tmp_path.iterdir()] == ["a file"]


def test_a_full_temporary_directory_keeps_the_finished_shards(
    talking, artifact, texts, tmp_path, monkeypatch
):
    """The export is whole but for its retention when the logits have no room."""
    request = ExportRequest(talking, artifact, tmp_path / "out", check_prompts=texts(1))
    partial = tmp_path / "out.partial-export"

    keep = Reference.keep

    def limited(reference, model):
        with file_limit(100):
            keep(reference, model)

    monkeypatch.setattr(Reference, "keep", limited)
    with pytest.raises(ScratchError, match=r"intermediate result.*File too large.*TMPDIR") as e:
        export(request)
    monkeypatch.undo()
    assert tempfile.gettempdir() in str(e.value)
    shard = (partial / "model.safetensors").stat()
    export(request)
    assert (request.out / "model.safetensors").stat().st_mtime_ns == shard.st_mtime_ns


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "format"), [(errno.EIO, "nf4"), (errno.ESTALE, "bf16")])
def test_simulated_network_file_system_that_goes_away(
    number, format, base, artifact, tmp_path, before_reads, monkeypatch
):
    """Simulation: after a number of reads of the base, ``preadv`` fails as NFS would."""
    fields = {"format": format, "max_shard_size": SHARD}
    whole = export(ExportRequest(base, artifact, tmp_path / "whole", **fields)).out
    request = ExportRequest(base, artifact, tmp_path / "out", **fields)
    finished = 0
    for allowed in (0, 6, 9):  # an export makes 26 reads or so

        def failing(read, allowed=allowed):
            if read > allowed:
                raise OSError(number, os.strerror(number))

        before_reads(base, failing)
        with pytest.raises(CheckpointUnreadableError, match=os.strerror(number)) as failed:
            export(request)
        monkeypatch.undo()
        assert str(base / "model.safetensors") in str(failed.value)
        assert not request.out.exists()
        before, finished = finished, len(list(tmp_path.glob("out.partial-export/*.safetensors")))
        assert finished >= before  # what was done is kept
    assert finished > 0
    export(request)
    assert content(request.out) == content(whole)


def test_a_directory_in_place_of_a_file(copy, artifact, tmp_path):
    (copy / "config.json").unlink()
    (copy / "config.json").mkdir()
    with pytest.raises(CheckpointUnreadableError, match="config.json.*directory"):
        export(ExportRequest(copy, artifact, tmp_path / "out"))


@pytest.mark.parametrize("read", [2, 24])
def test_a_shard_cut_short_while_it_is_read(
    read, copy, base, artifact, tmp_path, before_reads, monkeypatch
):
    """Through a memory map this would end the process (SIGBUS)."""
    request = ExportRequest(copy, artifact, tmp_path / "out", max_shard_size=SHARD)
    shard = copy / "model.safetensors"
    size = shard.stat().st_size

    def cut(number):
        if number == read:
            os.truncate(shard, size // 2)

    before_reads(copy, cut)
    with pytest.raises(CheckpointUnreadableError, match=f"has {size // 2} bytes, had {size}"):
        export(request)
    monkeypatch.undo()
    assert not request.out.exists()
    with pytest.raises(CheckpointError, match="download it again"):
        export(request)
    shutil.copyfile(base / "model.safetensors", shard)
    export(request)
    whole = export(ExportRequest(base, artifact, tmp_path / "whole", max_shard_size=SHARD)).out
    assert content(request.out) == content(whole)
