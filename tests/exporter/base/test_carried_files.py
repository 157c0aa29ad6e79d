"""Files of the base that go along."""

import os
import shutil
from pathlib import Path

import pytest

from exporter.errors import CheckpointError, CheckpointMissingError


def test_a_base_that_has_a_base_readme_loses_neither(base, artifact, tmp_path, run):
    shutil.copytree(base, tmp_path / "b")
    (tmp_path / "b" / "BASE_README.md").write_text("# Of the base's base\n")
    out = run(tmp_path / "b", artifact, "bf16").out
    assert (out / "BASE_README.md").read_text() == "# Of the base's base\n"
    assert (out / "BASE_BASE_README.md").read_bytes() == (base / "README.md").read_bytes()


@pytest.mark.parametrize("name", [b"\xff\xfe.txt", b"two\nlines.txt", b"\x1b[31m.txt"])
def test_a_name_that_no_manifest_can_hold_is_refused_first(name, base, artifact, tmp_path, run):
    shutil.copytree(base, tmp_path / "b")
    Path(os.fsdecode(os.fsencode(tmp_path / "b") + b"/" + name)).write_text("x")
    with pytest.raises(CheckpointError, match="is no printable text; rename"):
        run(tmp_path / "b", artifact, "nf4")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "README.md", "sub/added_tokens.json"])
def test_a_link_to_nothing_is_named(name, base, artifact, tmp_path, run):
    """As a hub cache has it while a download is under way."""
    link = tmp_path / "b" / name
    shutil.copytree(base, tmp_path / "b")
    link.unlink(missing_ok=True)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("../../blobs/abc")
    with pytest.raises(CheckpointMissingError, match=rf"{name}: is a link to \.\./\.\./blobs/abc"):
        run(tmp_path / "b", artifact, "bf16")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("broken", ["pytorch_model.bin", ".cache/lock"])
def test_links_are_followed_and_broken_ones_that_stay_behind_do_not_matter(
    broken, base, artifact, tmp_path, run
):
    shutil.copytree(base, tmp_path / "b")
    shutil.copytree(tmp_path / "b", tmp_path / "blobs")
    for file in ("LICENSE", "config.json", "model.safetensors"):
        (tmp_path / "b" / file).unlink()
        (tmp_path / "b" / file).symlink_to(tmp_path / "blobs" / file)
    (tmp_path / "b" / broken).parent.mkdir(exist_ok=True)
    (tmp_path / "b" / broken).symlink_to("../nothing")
    out = run(tmp_path / "b", artifact, "bf16").out
    assert (out / "LICENSE").read_bytes() == (base / "LICENSE").read_bytes()
    assert not (out / "LICENSE").is_symlink()
