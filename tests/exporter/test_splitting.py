"""`split`: the base and the adapter of an nf4-embedded export, apart."""

import json
import os
import shutil
import subprocess

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from exporter import split
from exporter.cli import app
from exporter.errors import OutputExistsError, OutputWriteError, RequestError, VerificationError
from tests.exporter.conftest import TOKENS


@pytest.fixture
def embedded(run, base, artifact):
    return run(base, artifact, "nf4-embedded", name="embedded").out


@torch.no_grad()
def logits(model):
    return model.eval()(TOKENS).logits.float()


@pytest.mark.filterwarnings("ignore")  # of the libraries' own loading
def test_the_parts_together_are_the_export(embedded, tmp_path):
    split(embedded, tmp_path / "parts")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "parts" / "base")
    plain = logits(base)
    parts = logits(PeftModel.from_pretrained(base, tmp_path / "parts" / "adapter"))
    whole = logits(AutoModelForCausalLM.from_pretrained(embedded))
    # transformers rounds the adapter that lies beside its base to half precision
    assert (parts - whole).norm() < 0.05 * (whole - plain).norm()


def test_files_are_those_of_the_export_without_what_is_about_both(embedded, tmp_path):
    found = split(embedded, tmp_path / "parts")
    assert found["adapter"] == ["adapter_config.json", "adapter_model.safetensors"]
    assert {"config.json", "model.safetensors", "LICENSE"} <= set(found["base"])
    both = {"README.md", "fidelity.json", "fidelity.csv", "export_manifest.json"}
    assert not both & set(found["base"])
    for part, names in found.items():
        folder = tmp_path / "parts" / part
        there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert there == {*names, "SHA256SUMS"}
        assert all((folder / n).read_bytes() == (embedded / n).read_bytes() for n in names)
        subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)


def test_parts_of_a_cache_of_links_are_files(embedded, tmp_path):
    (blobs := tmp_path / "blobs").mkdir()
    for file in embedded.iterdir():
        file.rename(blobs / file.name)
        file.symlink_to(f"../blobs/{file.name}")
    split(embedded, tmp_path / "parts")
    copies = [p for p in (tmp_path / "parts").rglob("*") if (blobs / p.name).exists()]
    assert not any(copy.is_symlink() for copy in copies)
    assert (tmp_path / "parts/base/config.json").samefile(blobs / "config.json")


def test_where_no_links_can_be_made_files_are_copied(embedded, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    split(embedded, tmp_path / "parts")
    copy = tmp_path / "parts" / "base" / "model.safetensors"
    assert copy.read_bytes() == (embedded / copy.name).read_bytes()
    assert not copy.samefile(embedded / copy.name)


def test_a_copy_that_is_not_equal_leaves_nothing(embedded, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda source, target: target.write_bytes(b"other"))
    with pytest.raises(VerificationError, match="is not equal to .*; nothing was written"):
        split(embedded, tmp_path / "parts")
    assert [p.name for p in tmp_path.iterdir()] == ["embedded"]


def test_of_two_at_once_into_one_place_one_is_refused(embedded, tmp_path, monkeypatch):
    def split_again(source, target, link=os.link):
        monkeypatch.undo()
        split(embedded, tmp_path / "parts")
        link(source, target)

    monkeypatch.setattr(os, "link", split_again)
    with pytest.raises(OutputWriteError, match="parts: cannot be written"):
        split(embedded, tmp_path / "parts")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["embedded", "parts"]
    assert (tmp_path / "parts/adapter/SHA256SUMS").is_file()


def test_shards_that_a_killed_merge_left_there_stay(embedded, tmp_path):
    (tmp_path / "parts.partial-export").mkdir()
    (shard := tmp_path / "parts.partial-export/model.safetensors").write_text("finished")
    (tmp_path / "parts.partial-export/.export-journal.json").touch()
    split(embedded, tmp_path / "parts")
    assert shard.read_text() == "finished"


def test_without_peft_an_export_can_be_parted(embedded, tmp_path, monkeypatch):
    monkeypatch.setattr("exporter.verification.find_spec", lambda name: None)
    assert split(embedded, tmp_path / "parts")["adapter"]


@pytest.mark.parametrize("format", ["nf4", "lora"])
def test_another_format_is_refused(run, base, artifact, tmp_path, format):
    out = run(base, artifact, format, name="whole").out
    with pytest.raises(RequestError, match=f"is a {format} export, which is one model or one"):
        split(out, tmp_path / "parts")
    assert [p.name for p in tmp_path.iterdir()] == ["whole"]


def test_no_export_damage_and_a_taken_place_are_refused(embedded, tmp_path):
    with pytest.raises(VerificationError, match="no export made by this tool"):
        split(tmp_path, tmp_path / "parts")
    with pytest.raises(RequestError, match="lies in the export itself"):
        split(embedded, embedded / "parts")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputExistsError, match="is already there"):
        split(embedded, tmp_path / "taken")
    (embedded / "config.json").write_text("{}")
    with pytest.raises(VerificationError, match=r"is damaged: config\.json has been changed"):
        split(embedded, tmp_path / "parts")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["embedded", "taken"]


def test_the_command_says_what_lies_where(embedded, tmp_path):
    out = tmp_path / "parts"
    result = CliRunner().invoke(app, ["split", str(embedded), "--out", str(out), "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["ok"] and set(found["files"]) == {"base", "adapter"}
    shutil.rmtree(out)
    result = CliRunner().invoke(app, ["split", str(embedded), "--out", str(out)])
    assert "adapter_model.safetensors" in result.stdout
