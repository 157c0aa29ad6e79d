"""Killed, doubled, failed and repeated exports."""

import errno
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporter import ExportRequest, export
from exporter.errors import (
    OutputBusyError,
    OutputExistsError,
    OutputWriteError,
    RequestError,
)
from exporter.output.workspace import open_workspace
from tests.exporter.conftest import content
from tests.exporter.formats.conftest import DEMO


class Killed(BaseException):
    """Ends an export as nothing else does that it knows of."""


def kill_at(number):
    def progress(step):
        if step.done == number:
            raise Killed

    return progress


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
        with pytest.raises(OutputBusyError, match="another process"):
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


@pytest.mark.parametrize("changed", ["options", "base", "shard"])
def test_only_whole_shards_of_the_same_export_are_taken_over(changed, base, artifact, tmp_path):
    copy = shutil.copytree(base, tmp_path / "base")
    request = ExportRequest(copy, artifact, tmp_path / "out", max_shard_size=30_000)
    with pytest.raises(Killed):
        export(request, kill_at(9))
    partial = tmp_path / "out.partial-export"
    shard = partial / next(iter(journaled(partial)))
    if changed == "options":
        request = replace(request, format="bf16")
    elif changed == "base":
        tensors = load_file(copy / "model.safetensors")
        tensors["model.embed_tokens.weight"][0, 0] += 1
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    else:
        shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    export(request)
    whole = export(replace(request, out=tmp_path / "whole")).out
    assert content(request.out) == content(whole)


def test_a_gguf_file_of_an_earlier_tokenizer_is_not_taken_over(
    make_base, artifact, tmp_path, monkeypatch
):
    copy = make_base(vocab_size=1536)
    for file in (DEMO / "base").glob("*token*"):
        shutil.copy(file, copy)
    request = ExportRequest(copy, artifact, tmp_path / "out", format="gguf")

    def killed(*_):
        raise Killed

    monkeypatch.setattr("exporter.make_export.write_model_files", killed)
    with pytest.raises(Killed):
        export(request)
    monkeypatch.undo()
    assert journaled(tmp_path / "out.partial-export")
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    edited = json.dumps(settings | {"chat_template": "edited {{ messages }}"})
    (copy / "tokenizer_config.json").write_text(edited)
    export(request)
    assert b"edited {{" in (request.out / "model.gguf").read_bytes()


@pytest.mark.parametrize("journal", ["[]", "null", "{", '{"key": 1}', '{"key": "k", "files": [4]}'])
def test_a_journal_of_another_form_starts_over(journal, base, artifact, tmp_path):
    partial = tmp_path / "out.partial-export"
    partial.mkdir()
    (partial / ".export-journal.json").write_text(journal)
    (partial / "model.safetensors").write_text("of what?")
    with open_workspace(tmp_path / "out", lambda: "k", overwrite=False) as workspace:
        assert "model.safetensors" not in workspace.finished
        assert not (partial / "model.safetensors").exists()
    assert export(ExportRequest(base, artifact, tmp_path / "out")).out.is_dir()


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
    with pytest.raises(OutputExistsError, match="overwrite"):
        export(ExportRequest(base, artifact, out, format="fp32"))
    request = ExportRequest(base, artifact, out, format="fp32", overwrite=True)
    with pytest.raises(OutputWriteError, match="out: cannot be written"):
        export(request)
    assert content(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.partial-export"]
    finished = journaled(tmp_path / "out.partial-export")
    monkeypatch.setattr(Path, "replace", honest)
    export(request)
    assert finished == {p.name: p.stat().st_mtime_ns for p in out.glob("*.safetensors")}
    assert load_file(out / "model.safetensors")["model.norm.weight"].dtype == torch.float32
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("place", ["out", "out.partial-export", "out.replaced-export"])
@pytest.mark.parametrize("what", ["artifact", "factor_store", "prompts", "check_prompts"])
def test_overwrite_never_takes_away_what_the_export_reads(what, place, base, artifact, tmp_path):
    out, inside = tmp_path / "out", tmp_path / place / "inputs" / "tiny_lora_v.pt"
    export(ExportRequest(base, artifact, out))
    inside.parent.mkdir(parents=True)
    shutil.copyfile(artifact, inside)
    fields = {"artifact": artifact} | {what: inside}
    with pytest.raises(RequestError, match=f"contain the .*{inside}; move"):
        export(ExportRequest(base, out=out, overwrite=True, **fields))
    assert inside.read_bytes() == artifact.read_bytes()


def test_overwrite_never_takes_away_what_is_no_export(base, artifact, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="no earlier export"):
        export(ExportRequest(base, artifact, out, overwrite=True))
    for bad in (base, base / "sub", base.parent):
        with pytest.raises(RequestError, match="in the base "):
            export(ExportRequest(base, artifact, bad, overwrite=True))
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(RequestError, match="symbolic link"):
        export(ExportRequest(base, artifact, tmp_path / "link", overwrite=True))
    assert (out / "chapter1.tex").read_text() == "years of work"


def test_factor_store_gives_the_same_bytes_faster(base, artifact, tmp_path):
    store = tmp_path / "factors"
    first = export(ExportRequest(base, artifact, tmp_path / "a", factor_store=store))
    assert len(list(store.glob("*.safetensors"))) == 14
    before = {p.name: p.stat().st_mtime_ns for p in store.iterdir()}
    time.sleep(0.01)
    second = export(ExportRequest(base, artifact, tmp_path / "b", factor_store=store))
    assert first.files == second.files
    assert before == {p.name: p.stat().st_mtime_ns for p in store.iterdir()}


@pytest.mark.parametrize("suffix", ["partial-export", "replaced-export"])
def test_what_lies_where_the_export_is_made_is_not_taken_away(suffix, base, artifact, tmp_path):
    mine = tmp_path / f"out.{suffix}"
    shutil.copytree(base, mine)
    before = content(mine)
    with pytest.raises(RequestError, match=f"the export itself is made at .*{suffix}"):
        export(ExportRequest(mine, artifact, tmp_path / "out"))
    if suffix == "partial-export":
        with pytest.raises(OutputExistsError, match="would be emptied"):
            export(ExportRequest(base, artifact, tmp_path / "out"))
    assert content(mine) == before and not (tmp_path / "out").exists()
