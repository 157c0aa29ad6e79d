"""Configuration, model card, manifest and digests; options that contradict each other."""

import ast
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from exporter.errors import CheckpointError, CheckpointMissingError, PlanError, RequestError
from tinylora import DeltaOptions

SIZE = 3e-3
FORMATS = ("nf4", "nf4-embedded", "bf16", "fp16", "fp32", "lora", "peft-tinylora")


@pytest.mark.parametrize("format", FORMATS)
def test_files_around_the_weights(base, artifact, run, format):
    out = run(base, artifact, format).out
    carried = {"tokenizer_config.json", "generation_config.json", "LICENSE"}
    if format not in ("lora", "peft-tinylora"):
        for name in carried:
            assert (out / name).read_bytes() == (base / name).read_bytes()
        assert (out / "BASE_README.md").read_bytes() == (base / "README.md").read_bytes()
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    listed = {line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()}
    assert listed == {p.name for p in out.iterdir()} - {"SHA256SUMS"}
    manifest = json.loads((out / "export_manifest.json").read_text())
    assert manifest["options"] == manifest["options"] | {
        "format": format, "formula": "full", "rng": "cpu", "svd": "exact", "numerics": "fp32",
    }  # fmt: skip
    assert len(manifest["targets"]) == 14
    assert str(base) not in (out / "export_manifest.json").read_text()
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert ("peft` must be installed" in card) == (format == "nf4-embedded")
    rows = (out / "fidelity.csv").read_text().splitlines()
    assert len(rows) == 15


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


def test_the_card_and_the_manifest_say_that_the_delta_was_lost(base, make_artifact, run):
    report = run(base, make_artifact(3e-5), "nf4")
    assert report.verdict == "lost"
    assert any("LOST" in warning for warning in report.warnings)
    assert "LOST" in (report.out / "README.md").read_text()
    manifest = json.loads((report.out / "export_manifest.json").read_text())
    assert any("LOST" in warning for warning in manifest["warnings"])


def test_another_name_is_a_warning(base, make_artifact, run):
    report = run(base, make_artifact(SIZE, model_id="qwen/Another-3B"), "lora")
    assert any("Another-3B" in warning for warning in report.warnings)


@pytest.mark.parametrize("format", ["lora", "peft-tinylora", "nf4"])
def test_what_an_artifact_calls_its_base_is_text_in_the_card(base, make_artifact, run, format):
    hostile = 'x"); __import__("os").system("id"); ("<img src=y>|[z](http://z)`'
    card = (run(base, make_artifact(SIZE, model_id=hostile), format).out / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["base_model"] == hostile
    code = text.split("```python\n")[1].split("```")[0]
    strings = [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)]
    assert (hostile in strings) == (format != "nf4")
    shown = text.replace(code, "")
    assert "\\<img src=y\\>\\|\\[z\\](http://z)\\`" in shown
    assert not re.search(r"(?<!\\)(<|\[z|`$)", shown)
    assert "__import__" not in shown.replace("\\_\\_import\\_\\_", "")


def test_contradicting_options(base, base_4bit, artifact, run, tmp_path):
    with pytest.raises(RequestError, match="trainer"):
        run(base, artifact, "lora", options=DeltaOptions(numerics="trainer"))
    with pytest.raises(RequestError, match="original"):
        run(base, artifact, "nf4", fold_onto="original")
    with pytest.raises(RequestError, match="recompute"):
        run(base, artifact, "fp32", requantize="recompute")
    with pytest.raises(RequestError, match="require-capture"):
        run(base, artifact, "nf4", require_capture=2.0)
    with pytest.raises(RequestError, match="--device 'nowhere' is unknown; expected cpu"):
        run(base, artifact, "nf4", device="nowhere")
    with pytest.raises(RequestError, match="--device 'meta' is unknown"):
        run(base, artifact, "nf4", device="meta")
    with pytest.raises(RequestError, match="--device cuda:99: torch sees . CUDA devices here"):
        run(base, artifact, "nf4", device="cuda:99")
    with pytest.raises(RequestError, match="q8"):
        run(base, artifact, "q8")
    with pytest.raises(PlanError, match="16-bit base"):
        run(base_4bit, artifact, "fp32", fold_onto="original")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md"])
def test_sha256sum_finds_what_was_tampered_with(base, artifact, run, name):
    out = run(base, artifact, "nf4-embedded").out
    check = ["sha256sum", "-c", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=out, check=False).returncode == 0
    content = bytearray((out / name).read_bytes())
    content[len(content) // 2] ^= 1
    (out / name).write_bytes(content)
    found = subprocess.run(check, cwd=out, check=False, capture_output=True, text=True)
    assert found.returncode == 1 and found.stdout.split() == [f"{name}:", "FAILED"]
