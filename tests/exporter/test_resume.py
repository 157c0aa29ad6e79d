"""Killed, doubled, failed and repeated exports."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporter import ExportRequest, export
from exporter.errors import (
    CaptureError,
    CheckpointError,
    CheckpointMissingError,
    DiskFullError,
    FoldError,
    OutputBusyError,
    OutputExistsError,
    PlanError,
    RequestError,
)
from exporter.workspace import open_workspace
from tinylora import TinyLoRAError


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
    child = server.start(asked | {"stop_at": 20})
    with Path(f"/proc/{child}/stat").open() as stat:  # SIGSTOP has been delivered when it says T
        while stat.read().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)
            stat.seek(0)
    try:
        with pytest.raises(OutputBusyError, match="another export"):
            export(ExportRequest(base, artifact, out, **fields))
    finally:
        os.kill(child, signal.SIGKILL)
        status = server.wait()
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
    assert seen[-1].done == seen[-1].total == 42
    assert not partial.exists()


@pytest.mark.parametrize("number", [1, 9, 20, 26, 35, 42])
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
        export(ExportRequest(base, artifact, out, max_shard_size=30_000), kill_at(26))
    export(ExportRequest(base, artifact, out, format="bf16"))
    export(ExportRequest(base, artifact, tmp_path / "fresh", format="bf16"))
    assert content(out) == content(tmp_path / "fresh")


def test_a_damaged_shard_is_made_again(base, artifact, tmp_path):
    request = ExportRequest(base, artifact, tmp_path / "out", max_shard_size=30_000)
    with pytest.raises(Killed):
        export(request, kill_at(26))
    partial = tmp_path / "out.partial-export"
    shard = partial / next(iter(journaled(partial)))
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    export(request)
    whole = export(ExportRequest(base, artifact, tmp_path / "whole", max_shard_size=30_000)).out
    assert content(request.out) == content(whole)


def test_two_exports_into_one_directory(base, artifact, tmp_path):
    out = tmp_path / "out"
    held = open_workspace(out, "key", overwrite=False)
    try:
        with pytest.raises(OutputBusyError, match="another export"):
            export(ExportRequest(base, artifact, out))
        assert held.path.is_dir()
    finally:
        held.close()
    export(ExportRequest(base, artifact, out))


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


# --- hostile or broken inputs -------------------------------------------------------------------


@pytest.fixture
def copy(base, tmp_path):
    directory = tmp_path / "inputs" / "tiny-qwen"
    shutil.copytree(base, directory)
    return directory


def change(directory, function):
    path = directory / "model.safetensors"
    tensors = load_file(path)
    function(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def refuse(base, artifact, tmp_path, error, match):
    with pytest.raises(error, match=match) as caught:
        export(ExportRequest(base, artifact, tmp_path / "out" / "x", format="nf4"))
    assert isinstance(caught.value, TinyLoRAError)
    assert not (tmp_path / "out" / "x").exists()
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


Q0 = "model.layers.0.self_attn.q_proj.weight"


def test_missing_tensor(copy, artifact, tmp_path):
    change(copy, lambda tensors: tensors.pop(Q0))
    refuse(copy, artifact, tmp_path, PlanError, r"layers\.0\.self_attn\.q_proj.*missing")


def test_wrong_shape(copy, artifact, tmp_path):
    change(copy, lambda tensors: tensors.update({Q0: torch.ones(64, 63)}))
    refuse(copy, artifact, tmp_path, PlanError, r"\[64, 63\].*\[64, 64\]")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [Q0, "model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
def test_non_finite_weight(copy, artifact, tmp_path, bad, name):
    def poison(tensors):
        tensors[name].view(-1)[7] = bad

    change(copy, poison)
    refuse(copy, artifact, tmp_path, FoldError, name.replace(".", r"\."))


def test_wrong_number_of_modules(copy, make_artifact, tmp_path):
    refuse(copy, make_artifact(1e-3, layers=252), tmp_path, ValueError, "252")


def test_hostile_artifact(copy, tmp_path):
    artifact = tmp_path / "inputs" / "a.pt"
    torch.save({"global_v": os.system}, artifact)
    refuse(copy, artifact, tmp_path, TinyLoRAError, "a.pt")
    artifact.write_bytes(b"PK\x03\x04 not a zip")
    refuse(copy, artifact, tmp_path, TinyLoRAError, "a.pt")
    refuse(copy, tmp_path / "none.pt", tmp_path, FileNotFoundError, "none.pt")


def test_truncated_weights(copy, artifact, tmp_path):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refuse(copy, artifact, tmp_path, CheckpointError, "model.safetensors.*download")


def test_missing_files(copy, artifact, tmp_path):
    refuse(copy / "nowhere", artifact, tmp_path, CheckpointMissingError, "nowhere")
    (copy / "config.json").rename(copy / "config.off")
    refuse(copy, artifact, tmp_path, CheckpointMissingError, "config.json")
    (copy / "config.off").rename(copy / "config.json")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refuse(copy, artifact, tmp_path, CheckpointMissingError, "convert it to safetensors")


def test_unknown_architectures_and_quantizations(copy, artifact, tmp_path):
    config = copy / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"qwen2"', '"qwen99"'))
    refuse(copy, artifact, tmp_path, CheckpointError, "qwen99")
    config.write_text("{")
    refuse(copy, artifact, tmp_path, CheckpointError, "JSON")
    config.write_text(text.replace("{", '{"quantization_config": {"quant_method": "gptq"},', 1))
    refuse(copy, artifact, tmp_path, CheckpointError, "gptq")


def test_a_base_with_an_adapter_is_refused(base, artifact, tmp_path, run):
    embedded = run(base, artifact, "nf4-embedded", name="tiny-qwen").out
    with pytest.raises(CheckpointError, match="adapter already"):
        export(ExportRequest(embedded, artifact, tmp_path / "again"))


def test_disk_too_small(base, artifact, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match="needs 0.00 GB"):
        export(ExportRequest(base, artifact, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_disk_fills_up_during_the_work_and_the_export_goes_on(base, artifact, tmp_path):
    import resource

    request = ExportRequest(base, artifact, tmp_path / "out", format="fp32", max_shard_size=40_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # the first shard (the embedding, 64 kB) fits; the journal and later shards do not all
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(DiskFullError, match="no room"):
            export(request)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not request.out.exists()
    export(request)
    assert request.out.exists() and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_factor_store_gives_the_same_bytes_faster(base, artifact, tmp_path):
    store = tmp_path / "factors"
    first = export(ExportRequest(base, artifact, tmp_path / "a", factor_store=store))
    assert len(list(store.iterdir())) == 14
    before = {p.name: p.stat().st_mtime_ns for p in store.iterdir()}
    time.sleep(0.01)
    second = export(ExportRequest(base, artifact, tmp_path / "b", factor_store=store))
    assert first.files == second.files
    assert before == {p.name: p.stat().st_mtime_ns for p in store.iterdir()}
