"""Bases from a hub and exports to it, by Hugging Face's own client against a local stand-in."""

import json

import pytest
from typer.testing import CliRunner

from exporter.cli import app
from tests.hub_stand_in import running_hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running stand-in, an empty cache, and a token."""
    pytest.importorskip("huggingface_hub")
    with running_hub() as running:
        constants = "huggingface_hub.constants."
        template = running.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants + "ENDPOINT", running.address)
        monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants + "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "scope"))
        monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
        yield running


def merge(base, artifact, out, *options):
    inputs = ["merge", "--base", base, "--artifact", artifact, "--out", out, "--format", "lora"]
    return CliRunner().invoke(app, [str(part) for part in (*inputs, *options)])


def test_a_base_is_downloaded_once_without_weights_that_are_not_read(
    hub, base, make_artifact, tmp_path
):
    hub.files = {file.name: file.read_bytes() for file in base.iterdir()}
    hub.files["pytorch_model.bin"] = b"the same once more"
    artifact = make_artifact(1e-3, model_id="some/base")
    made = merge("some/base", artifact, tmp_path / "out", "--download", "huggingface")
    assert made.exit_code == 0, made.output
    assert any(path.endswith("model.safetensors") for path in hub.asked)
    assert not any(path.endswith(".bin") for path in hub.asked)
    before = len(hub.asked)
    again = merge("Some/Base", artifact, tmp_path / "again")  # from the cache
    assert again.exit_code == 0 and "was trained on" not in " ".join(again.stderr.split())
    assert len(hub.asked) == before


def test_a_hub_that_lacks_the_base_is_said_with_the_places_looked_at(hub, make_artifact, tmp_path):
    hub.refuses = True
    lost = merge("some/base", make_artifact(1e-3), tmp_path / "out", "--download", "huggingface")
    text = "".join(lost.stderr.split())
    assert lost.exit_code == 2 and "Traceback" not in lost.stderr
    assert "notdownloadedfromhuggingface" in text and str(tmp_path / "cache") in text
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of Hugging Face's client
def test_an_export_is_uploaded_whole_to_a_private_repository(hub, base, make_artifact, tmp_path):
    out = tmp_path / "out"
    made = merge(base, make_artifact(1e-3), out, "--push-to-hub", "me/mine", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["pushed_to"] == f"{hub.address}/me/mine"
    asked = hub.created[0]  # clients before 2.0 say it in the first way
    assert asked.get("private") or asked.get("visibility") == "private"
    assert hub.uploaded == {file.name: file.read_bytes() for file in out.iterdir()}


def test_what_could_not_be_uploaded_is_refused_before_any_work(
    hub, base, make_artifact, tmp_path, monkeypatch
):
    out, artifact = tmp_path / "out", make_artifact(1e-3)
    misnamed = merge(base, artifact, out, "--push-to-hub", "not a name")
    assert misnamed.exit_code == 2 and "expected OWNER/NAME" in misnamed.stderr
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    stranger = merge(base, artifact, out, "--push-to-hub", "me/mine")
    assert stranger.exit_code == 2 and "hf auth login" in stranger.stderr
    assert not out.exists() and not hub.created


def test_a_refused_upload_leaves_the_export_and_says_how_to_go_on(
    hub, base, make_artifact, tmp_path
):
    out = tmp_path / "out"
    hub.refuses = True
    refused = merge(base, make_artifact(1e-3), out, "--push-to-hub", "me/mine")
    text = " ".join(refused.stderr.split())
    assert refused.exit_code == 2 and "Traceback" not in text
    assert "no right to do this" in text and f"hf upload me/mine {out}" in text
    assert (out / "adapter_model.safetensors").is_file()


def test_ctrl_c_while_uploading_says_that_the_export_is_whole(
    hub, base, make_artifact, tmp_path, monkeypatch
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", interrupted)
    out = tmp_path / "out"
    stopped = merge(base, make_artifact(1e-3), out, "--push-to-hub", "me/mine")
    text = " ".join(stopped.stderr.split())
    assert stopped.exit_code == 130 and "partial-export" not in text
    assert f"Interrupted. {out} is whole" in text and f"hf upload me/mine {out}" in text
