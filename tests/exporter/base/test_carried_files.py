"""Files of the base that go along."""

import os
import shutil
from pathlib import Path

import pytest

from exporter.errors import CheckpointError, CheckpointMissingError


def test_a_base_that_has_a_base_readme_loses_neither(base, copy, artifact, run):
    (copy / "BASE_README.md").write_text("# Of the base's base\n")
    out = run(copy, artifact, "bf16").out
    assert (out / "BASE_README.md").read_text() == "# Of the base's base\n"
    assert (out / "BASE_BASE_README.md").read_bytes() == (base / "README.md").read_bytes()


@pytest.mark.parametrize("name", [b"\xff\xfe.txt", b"two\nlines.txt", b"\x1b[31m.txt"])
def test_a_name_that_no_manifest_can_hold_is_refused_first(name, copy, artifact, tmp_path, run):
    Path(os.fsdecode(os.fsencode(copy) + b"/" + name)).write_text("x")
    with pytest.raises(CheckpointError, match="is no printable text; rename"):
        run(copy, artifact, "nf4")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "README.md", "sub/added_tokens.json"])
def test_a_link_to_nothing_is_named(name, copy, artifact, tmp_path, run):
    """As a hub cache has it while a download is under way."""
    link = copy / name
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("../../blobs/abc")
    with pytest.raises(CheckpointMissingError, match=rf"{name}: is a link to \.\./\.\./blobs/abc"):
        run(copy, artifact, "bf16")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny-qwen"]


def test_links_are_followed_and_broken_ones_that_stay_behind_do_not_matter(
    base, copy, artifact, tmp_path, run
):
    shutil.copytree(copy, tmp_path / "blobs")
    for file in ("LICENSE", "config.json", "model.safetensors"):
        (copy / file).unlink()
        (copy / file).symlink_to(tmp_path / "blobs" / file)
    (copy / "folder").symlink_to(tmp_path / "blobs")
    (copy / "round").symlink_to(copy)  # a way that never ends
    (copy / ".cache").mkdir()
    for broken in ("pytorch_model.bin", ".cache/lock"):
        (copy / broken).symlink_to("../nothing")
    out = run(copy, artifact, "bf16").out
    for name in ("LICENSE", "folder/LICENSE"):
        assert (out / name).read_bytes() == (base / "LICENSE").read_bytes()
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert not (out / "round").exists()


def test_weights_in_any_container_and_unfinished_files_are_left_out_and_listed(copy, artifact, run):
    names = {
        "a.onnx_data", "b.incomplete", "model.safetensors.bak", "c.ot", "d.npz", "e.distcp",
        "f.pdparams", "g.tflite", "h.msc", "onnx/decoder.onnx", "pytorch_model.bin",
        "overlay.safetensors", "original/consolidated.00.pth", "\udcff.bak",
    }  # fmt: skip
    (copy / "original").mkdir()
    (copy / "onnx").mkdir()
    for name in names:
        (copy / name).write_bytes(b"weights")
    (copy / "small.unknown").write_bytes(b"x")
    with (copy / "large.unknown").open("wb") as large:
        large.truncate((10 << 20) + 1)
    report = run(copy, artifact, "bf16")
    there = {p.relative_to(report.out).as_posix() for p in report.out.rglob("*") if p.is_file()}
    assert "small.unknown" in there and not there & {*names, "large.unknown"}
    listed = next(w for w in report.warnings if "Left out" in w)
    assert "overlay.safetensors" in listed and "model.safetensors.bak" in listed
    assert "model.safetensors," not in listed and r"\udcff.bak" in listed


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", POINTER, "git lfs pull"),
        ("model.safetensors", POINTER, "git lfs pull"),
        ("tokenizer.json", "{", "is no JSON"),
        ("tokenizer.json", "[" * 50_000 + "]" * 50_000, "is no JSON"),
    ],
    ids=["pointer", "pointer to weights", "broken", "nested"],
)
def test_a_file_that_would_not_load_is_refused_before_any_work(
    name, content, words, copy, artifact, run, tmp_path
):
    (copy / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{name}: .*{words}"):
        run(copy, artifact, "bf16")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny-qwen"]
