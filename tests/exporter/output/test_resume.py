"""Killed, doubled, failed and repeated exports."""

import errno
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from exporter import ExportRequest, export
from exporter.errors import (
    CaptureError,
    OutputBusyError,
    OutputExistsError,
    OutputWriteError,
    RequestError,
)
from exporter.output.workspace import open_workspace
from exporter.request import Goal


class Killed(BaseException):
    """Ends an export as nothing else does that it knows of."""


def kill_at(number):
    def progress(step):
        if step.done == number:
            raise Killed

    return progress


def content(directory):
    return {p.name: p.read_bytes() for p in sorted(directory.iterdir())}


def journaled(partial):
    journal = json.loads((partial / ".export-journal.json").read_text())
    return {f["name"]: (partial / f["name"]).stat().st_mtime_ns for f in journal["files"]}


def test_stopped_locked_killed_and_resumed(server, base, artifact, tmp_path):
    fields = {"format": "nf4-embedded", "max_shard_size": 30_000}
    whole = export(ExportRequest(base, artifact, tmp_path / "whole", **fields)).out
    out = tmp_path / "killed"
    asked = {"base": str(base), "artifact": str(artifact), "out": str(out)} | fields
    child = server.start(asked | {"stop_at": 7})
    with Path(f"/proc/{child}/stat").open() as stat:  # SIGSTOP has been delivered when it says T
        while (state := stat.read().rpartition(")")[2].split()[0]) != "T":
            assert state != "Z", "it ended before it came to where it stops"
            time.sleep(0.01)
            stat.seek(0)
    try:
        with pytest.raises(OutputBusyError, match="another export"):
            export(ExportRequest(base, artifact, out, **fields))
    finally:
        os.kill(child, signal.SIGKILL)
        status = server.wait(child)
    assert os.WTERMSIG(status) == signal.SIGKILL
    partial = out.with_name("killed.partial-export")
    finished = journaled(partial)
    assert not out.exists()
    assert 0 < len(finished) < len(list(whole.glob("*.safetensors")))
    seen = []
    export(ExportRequest(base, artifact, out, **fields), seen.append)
    assert content(out) == content(whole)
    kept = {p.name: p.stat().st_mtime_ns for p in out.glob("*.safetensors")}
    assert finished.items() <= kept.items(), "a finished shard was written again"
    assert seen[-1].done == seen[-1].total == 14
    assert not partial.exists()


@pytest.mark.parametrize("number", [1, 3, 7, 9, 12, 14])
def test_killed_anywhere_it_ends_byte_identical(base, artifact, tmp_path, number):
    fields = {"format": "nf4", "max_shard_size": 30_000}
    whole = export(ExportRequest(base, artifact, tmp_path / "whole", **fields)).out
    request = ExportRequest(base, artifact, tmp_path / "out", **fields)
    with pytest.raises(Killed):
        export(request, kill_at(number))
    assert not request.out.exists()
    export(request)
    assert content(request.out) == content(whole)


def test_other_options_do_not_take_over_what_is_left(base, artifact, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(Killed):
        export(ExportRequest(base, artifact, out, max_shard_size=30_000), kill_at(9))
    export(ExportRequest(base, artifact, out, format="bf16"))
    export(ExportRequest(base, artifact, tmp_path / "fresh", format="bf16"))
    assert content(out) == content(tmp_path / "fresh")


def test_a_damaged_shard_is_made_again(base, artifact, tmp_path):
    request = ExportRequest(base, artifact, tmp_path / "out", max_shard_size=30_000)
    with pytest.raises(Killed):
        export(request, kill_at(9))
    partial = tmp_path / "out.partial-export"
    shard = partial / next(iter(journaled(partial)))
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    export(request)
    whole = export(ExportRequest(base, artifact, tmp_path / "whole", max_shard_size=30_000)).out
    assert content(request.out) == content(whole)


@pytest.mark.parametrize(
    "journal",
    [
        "[]",
        "1",
        "null",
        "{",
        '{"key": 1}',
        '{"key": "k", "files": 3}',
        '{"key": "k", "files": [4]}',
    ],
)
def test_a_journal_of_another_form_starts_over(journal, base, artifact, tmp_path):
    partial = tmp_path / "out.partial-export"
    partial.mkdir()
    (partial / ".export-journal.json").write_text(journal)
    (partial / "model.safetensors").write_text("of what?")
    workspace = open_workspace(tmp_path / "out", lambda: "k", overwrite=False)
    assert workspace.finished("model.safetensors") is None
    assert not (partial / "model.safetensors").exists()
    workspace.close()
    assert export(ExportRequest(base, artifact, tmp_path / "out")).out.is_dir()


def test_two_exports_into_one_directory(base, artifact, tmp_path):
    out = tmp_path / "out"
    held = open_workspace(out, lambda: "key", overwrite=False)
    try:
        with pytest.raises(OutputBusyError, match="another export"):
            export(ExportRequest(base, artifact, out))
        assert held.path.is_dir()
    finally:
        held.close()
    export(ExportRequest(base, artifact, out))


def test_a_failed_second_rename_leaves_the_earlier_export(base, artifact, tmp_path, monkeypatch):
    """Simulation of a file system that fails between two renames."""
    out, honest = tmp_path / "out", Path.replace
    export(ExportRequest(base, artifact, out, format="bf16"))
    before = content(out)

    def failing(path, target):
        if path.name == "out.partial-export" and target == out:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return honest(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    request = ExportRequest(base, artifact, out, format="fp32", overwrite=True)
    with pytest.raises(OutputWriteError, match="out: cannot be written"):
        export(request)
    assert content(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.partial-export"]
    monkeypatch.setattr(Path, "replace", honest)
    export(request)
    assert load_file(out / "model.safetensors")["model.norm.weight"].dtype == torch.float32
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_overwrite(base, artifact, make_artifact, tmp_path):
    out = tmp_path / "out"
    export(ExportRequest(base, artifact, out, format="bf16"))
    before = content(out)
    with pytest.raises(OutputExistsError, match="overwrite"):
        export(ExportRequest(base, artifact, out, format="fp32"))
    assert content(out) == before
    export(ExportRequest(base, artifact, out, format="fp32", overwrite=True))
    assert load_file(out / "model.safetensors")["model.norm.weight"].dtype == torch.float32
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("what", ["artifact", "factor_store", "prompts", "check_prompts"])
def test_overwrite_never_takes_away_what_the_export_reads(what, base, artifact, tmp_path):
    out, inside = tmp_path / "out", tmp_path / "out" / "inputs" / "tiny_lora_v.pt"
    export(ExportRequest(base, artifact, out))
    inside.parent.mkdir()
    shutil.copyfile(artifact, inside)
    fields = {"artifact": artifact}
    if what.endswith("prompts"):
        fields["goal"] = Goal(**{what: inside})
    else:
        fields[what] = inside
    with pytest.raises(RequestError, match=f"contain the .*{inside}; move"):
        export(ExportRequest(base, out=out, overwrite=True, **fields))
    assert inside.read_bytes() == artifact.read_bytes()


def test_an_output_inside_what_the_export_reads_takes_nothing_away(base, artifact, tmp_path):
    store = tmp_path / "store"
    export(ExportRequest(base, artifact, store / "out", factor_store=store))
    assert list(store.glob("*.safetensors")) and (store / "out").is_dir()


def test_overwrite_never_takes_away_what_is_no_export(base, artifact, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="no earlier export"):
        export(ExportRequest(base, artifact, out, overwrite=True))
    for bad in (base, base / "sub", base.parent):
        with pytest.raises(RequestError, match="base directory"):
            export(ExportRequest(base, artifact, bad, overwrite=True))
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(RequestError, match="symbolic link"):
        export(ExportRequest(base, artifact, tmp_path / "link", overwrite=True))
    assert (out / "chapter1.tex").read_text() == "years of work"


def test_a_capture_that_falls_short_leaves_nothing(base, make_artifact, tmp_path):
    small = make_artifact(3e-5)
    with pytest.raises(CaptureError, match="nf4 keeps 0 of the delta"):
        export(ExportRequest(base, small, tmp_path / "a", require_capture=0.5))
    assert list(tmp_path.iterdir()) == []
    export(ExportRequest(base, small, tmp_path / "a", format="fp32", require_capture=0.99))


def test_failed_overwrite_keeps_the_earlier_export(base, make_artifact, tmp_path):
    small, out = make_artifact(3e-5), tmp_path / "out"
    export(ExportRequest(base, small, out, format="fp32"))
    before = content(out)
    with pytest.raises(CaptureError):
        export(ExportRequest(base, small, out, require_capture=0.5, overwrite=True))
    assert content(out) == before


def test_factor_store_gives_the_same_bytes_faster(base, artifact, tmp_path):
    store = tmp_path / "factors"
    first = export(ExportRequest(base, artifact, tmp_path / "a", factor_store=store))
    assert len(list(store.glob("*.safetensors"))) == 14
    before = {p.name: p.stat().st_mtime_ns for p in store.iterdir()}
    time.sleep(0.01)
    second = export(ExportRequest(base, artifact, tmp_path / "b", factor_store=store))
    assert first.files == second.files
    assert before == {p.name: p.stat().st_mtime_ns for p in store.iterdir()}
