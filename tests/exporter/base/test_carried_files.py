"""Files of the base that go along."""

import os
import shutil
from pathlib import Path

import pytest

from exporter.errors import CheckpointError, CheckpointMissingError


@pytest.fixture
def copy(base, tmp_path):
    return shutil.copytree(base, tmp_path / "b")


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
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("broken", ["pytorch_model.bin", ".cache/lock"])
def test_links_are_followed_and_broken_ones_that_stay_behind_do_not_matter(
    broken, base, copy, artifact, tmp_path, run
):
    shutil.copytree(copy, tmp_path / "blobs")
    for file in ("LICENSE", "config.json", "model.safetensors"):
        (copy / file).unlink()
        (copy / file).symlink_to(tmp_path / "blobs" / file)
    (copy / broken).parent.mkdir(exist_ok=True)
    (copy / broken).symlink_to("../nothing")
    out = run(copy, artifact, "bf16").out
    assert (out / "LICENSE").read_bytes() == (base / "LICENSE").read_bytes()
    assert not (out / "LICENSE").is_symlink()
