"""``verify --prompts`` records what it measured in a file of its own."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from exporter import ExportRequest, export, verify
from exporter.cli import app
from exporter.errors import OutputWriteError, VerificationError
from tests.exporter.conftest import content


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


def command(out, inputs, *more):
    arguments = [f"--{name}={path}" for name, path in inputs.items()]
    return CliRunner().invoke(app, ["verify", str(out), *arguments, *more])


def test_verify_measures_and_records(out, inputs):
    before = content(out)
    report = verify(out, **inputs, record=False)
    assert report.ok and report.retention is not None and content(out) == before
    report = verify(out, **inputs)
    assert report.ok, report.checks
    assert report.retention.value > 0.999
    after = content(out)
    assert json.loads(after.pop("retention.json")) == report.retention.as_dict()
    assert after == before
    assert "folded in float64" in command(out, inputs, "--float64", "--no-record").stdout
    again = verify(out)
    assert again.ok and f"retention {report.retention.as_dict()['retention']}" in again.measured


def test_directory_that_cannot_be_written(out, inputs):
    (out / "retention.json.part").mkdir()  # root may write everywhere, but not into this
    result = command(out, inputs)
    assert result.exit_code == 2 and "--no-record" in " ".join(result.stderr.split())
    assert "--out" not in result.stderr
    assert not (out / "retention.json").exists()
    result = command(out, inputs, "--no-record")
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


def test_an_export_of_others_is_known_before_models_run(out, inputs, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    monkeypatch.setattr("exporter.verification.measure_retention", None)
    with pytest.raises(OutputWriteError, match="out: may not be written to .*--no-record"):
        verify(out, **inputs)
