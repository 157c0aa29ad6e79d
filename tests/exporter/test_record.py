"""A retention in manifest, model card and digests: all three, or none."""

import json
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from exporter import ExportRequest, export, verify
from exporter.cli import app
from exporter.compare.retention import Divergence, Retention
from exporter.documents.record import finish_recording, record_retention
from exporter.errors import OutputWriteError, VerificationError

FILES = ("README.md", "SHA256SUMS", "export_manifest.json")
PENDING = ".retention-record.json"


def retention(mean):
    one = Divergence(mean, mean, mean, 1.0, mean)
    base = Divergence(2.0, 2.0, 2.0, 0.5, 2.0)
    noise = Divergence(0.0, 0.0, 0.0, 1.0, 0.0)
    return Retention("0" * 64, 7, one, base, noise, noise)


@pytest.fixture(scope="module")
def inputs(talking, make_artifact, texts):
    return {"base": talking, "artifact": make_artifact(3e-3), "prompts": texts(1)}


@pytest.fixture(scope="module")
def exported(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("record") / "out"
    export(ExportRequest(inputs["base"], inputs["artifact"], out, format="nf4-embedded"))
    return out


@pytest.fixture
def out(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "out")
    return tmp_path / "out"


def content(directory):
    return {p.name: p.read_bytes() for p in sorted(directory.iterdir())}


def sums_hold(directory):
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=directory, capture_output=True
    )
    return done.returncode == 0


def test_all_three_agree(out):
    before = content(out)
    record_retention(out, retention(0.5))
    after = content(out)
    assert {name for name in after if after[name] != before.get(name)} == set(FILES)
    assert before.keys() == after.keys()
    assert json.loads(after["export_manifest.json"])["retention"] == retention(0.5).as_dict()
    card = after["README.md"].decode()
    assert "Retention 0.7500 on 7 tokens" in card and card.count("## Retention") == 1
    assert card.index("## Retention") < card.index("## Origin") < card.index("## Licence")
    assert sums_hold(out) and verify(out).ok


def test_a_second_recording_replaces_the_first(out, tmp_path):
    shutil.copytree(out, tmp_path / "fresh")
    record_retention(tmp_path / "fresh", retention(0.25))
    for mean in (0.5, 0.25):
        record_retention(out, retention(mean))
    assert content(out) == content(tmp_path / "fresh")


def test_verify_measures_and_records(out, inputs):
    report = verify(out, **inputs)
    assert report.ok and report.retention.value > 0.999
    recorded = json.loads((out / "export_manifest.json").read_text())["retention"]
    assert recorded == report.retention.as_dict()
    first = content(out)
    assert sums_hold(out) and verify(out, **inputs).ok and content(out) == first


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_killed_between_the_renames(out, tmp_path, done):
    shutil.copytree(out, tmp_path / "whole")
    record_retention(tmp_path / "whole", retention(0.5))
    texts = {name: (tmp_path / "whole" / name).read_text() for name in FILES}
    (out / PENDING).write_text(json.dumps(texts))
    (out / "README.md.part").write_text("half")
    for name in FILES[:done]:
        (out / name).write_text(texts[name])
    before = content(out)
    report = verify(out, record=False)
    assert content(out) == before and not report.ok
    assert "killed half way" in str(report.checks)
    assert verify(out).ok
    (out / "README.md.part").unlink(missing_ok=True)
    assert content(out) == content(tmp_path / "whole")


def test_no_record_leaves_every_byte(out, inputs):
    before = content(out)
    report = verify(out, **inputs, record=False)
    assert report.ok and report.retention is not None and content(out) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"README.md": "a"}', '{"../x": "a"}', "[" * 100_000])
def test_a_pending_file_of_someone_else_writes_nothing(out, tmp_path, text):
    (out / PENDING).write_text(text)
    before = content(out)
    with pytest.raises(VerificationError, match="remove it"):
        finish_recording(out)
    assert content(out) == before and not (tmp_path / "x").exists()


def test_a_directory_that_cannot_be_written(out, inputs):
    (out / f"{PENDING}.part").mkdir()  # root may write everywhere, but not into this
    before = {name: (out / name).read_bytes() for name in FILES}
    with pytest.raises(OutputWriteError, match="cannot be written"):
        record_retention(out, retention(0.5))
    assert before == {name: (out / name).read_bytes() for name in FILES}
    arguments = [str(out)] + [f"--{name}={path}" for name, path in inputs.items()]
    result = CliRunner().invoke(app, ["verify", *arguments])
    assert result.exit_code == 2 and "--no-record" in " ".join(result.stderr.split())
    result = CliRunner().invoke(app, ["verify", *arguments, "--no-record"])
    assert result.exit_code == 0 and "this export" in result.stdout


def test_other_inputs_are_not_recorded(out, inputs, make_artifact, base):
    before = content(out)
    other = make_artifact(2e-3)
    with pytest.raises(VerificationError, match="not the artifact"):
        verify(out, **(inputs | {"artifact": other}))
    assert content(out) == before
    assert verify(out, **(inputs | {"artifact": other}), record=False).retention is not None


def test_damaged_files_are_not_measured(out, inputs):
    (out / "config.json").write_text("{}")
    before = content(out)
    report = verify(out, **inputs)
    assert not report.ok and report.retention is None and content(out) == before
