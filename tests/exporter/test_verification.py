import json
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from exporter import verification, verify
from exporter.cli import app
from exporter.errors import VerificationError


@pytest.fixture
def embedded(base, artifact, run):
    return run(base, artifact, "nf4-embedded").out


def failed(report):
    return {check.name: " ".join(check.problems) for check in report.checks if not check.ok}


@pytest.mark.parametrize("format", ["nf4", "nf4-embedded", "bf16", "fp16", "fp32", "lora"])
def test_fresh_exports_verify(base, artifact, run, format):
    report = verify(run(base, artifact, format).out)
    assert report.ok and report.format == format and len(report.checks) >= 2


def test_a_flipped_byte_is_found(embedded):
    path = embedded / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-2000] ^= 1
    path.write_bytes(raw)
    assert "model.safetensors has been changed" in failed(verify(embedded))["files and digests"]


def test_missing_and_added_files_are_found(embedded):
    (embedded / "LICENSE").unlink()
    save_file({"a": torch.ones(1)}, embedded / "model-2.safetensors")
    problems = failed(verify(embedded))["files and digests"]
    assert "LICENSE is missing" in problems and "model-2.safetensors is no part" in problems


def test_a_file_that_would_change_what_loads_is_found(base, artifact, run):
    out = run(base, artifact, "nf4").out
    (out / "notes.txt").write_text("mine")
    (out / ".gitattributes").write_text("")
    assert verify(out).ok
    (out / "adapter_config.json").write_text("{}")
    problems = failed(verify(out))["files and digests"]
    assert problems == "adapter_config.json is no part of the export"


def test_what_was_recorded_is_shown(base, make_artifact, run):
    """The files of an export that lost its delta are as they should be."""
    out = run(base, make_artifact(3e-5), "nf4").out
    result = CliRunner().invoke(app, ["verify", str(out)])
    assert result.exit_code == 0
    assert "recorded: by the weights: delta lost, capture 0.0, residual 1.0" in result.stdout
    assert "Warning, recorded: THE DELTA WAS LOST" in result.stderr


def test_another_dtype_is_found(base, artifact, run):
    out = run(base, artifact, "bf16").out
    path = out / "model.safetensors"
    tensors = {name: tensor.half() for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    assert "is F16" in failed(verify(out))["tensors of model.safetensors"]


def test_non_finite_values_are_found(base, artifact, run):
    out = run(base, artifact, "bf16").out
    path = out / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})
    assert "non-finite" in failed(verify(out))["tensors of model.safetensors"]


def test_an_adapter_that_would_not_attach_is_found(embedded):
    config = json.loads((embedded / "adapter_config.json").read_text())
    config["target_modules"].remove("q_proj")
    (embedded / "adapter_config.json").write_text(json.dumps(config))
    assert "q_proj" in failed(verify(embedded))["adapter would attach"]


@pytest.mark.parametrize(("factor", "side"), [("lora_A", 0), ("lora_B", 1)])
def test_a_lora_pair_of_two_ranks_is_found(factor, side, embedded):
    path = embedded / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(f"{factor}.weight"))
    tensors[name] = torch.cat([tensors[name]] * 2, dim=side)
    save_file(tensors, path, metadata={"format": "pt"})
    module = name.removeprefix("base_model.model.").removesuffix(f".{factor}.weight")
    assert f"{module}: lora_A" in failed(verify(embedded))["adapter would attach"]


def test_an_adapter_that_cannot_be_read_is_found_under_the_same_name(embedded):
    (embedded / "adapter_config.json").write_text("{")
    assert "cannot be read" in failed(verify(embedded))["adapter would attach"]


def test_a_damaged_record_of_retention_is_a_problem(embedded):
    (embedded / "retention.json").write_text("{")
    assert "cannot be read as JSON" in failed(verify(embedded))["retention.json"]


def test_missing_peft_is_found(embedded, monkeypatch):
    monkeypatch.setattr(
        verification, "find_spec", lambda name: None if name == "peft" else find_spec(name)
    )
    assert "base alone" in failed(verify(embedded))["peft is installed"]


def test_what_is_no_export_is_refused(base, tmp_path):
    for directory in (base, tmp_path, tmp_path / "none"):
        with pytest.raises(VerificationError, match="no export"):
            verify(directory)
    (tmp_path / "export_manifest.json").write_text('{"format": "else"}')
    with pytest.raises(VerificationError, match="else"):
        verify(tmp_path)
    with pytest.raises(VerificationError, match="together"):
        verify(base, base=base)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("options", {}),
        ("options", {"format": "bogus"}),
        ("options", {"format": ["nf4"]}),
        ("files", {"/etc/hostname": "x"}),
        ("files", {"sub/../../secret": "x"}),
        ("files", {"model.safetensors": 1}),
        ("files", {"x" * 256: "x"}),
        ("tensors", {"model.safetensors": {"a": 1}}),
        ("tensors", {"model.safetensors": {"a": ["F32", "4"]}}),
        ("tensors", {"model.safetensors": {"a": ["F32", [4, None]]}}),
        ("tensors", {"model.safetensors": []}),
        ("tensors", {"../model.safetensors": {}}),
        ("targets", [1]),
    ],
)  # fmt: skip
def test_a_manifest_of_another_form_is_refused(field, value, embedded):
    path = embedded / "export_manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(VerificationError, match=f"export_manifest.json: {field} is .*again"):
        verify(embedded)


@pytest.mark.parametrize("config", ["[]", '{"target_modules": 5}', '{"target_modules": [5]}'])
@pytest.mark.parametrize("format", ["lora", "peft-tinylora"])
def test_an_adapter_config_of_another_form_is_a_problem(format, config, base, artifact, run):
    out = run(base, artifact, format).out
    (out / "adapter_config.json").write_text(config)
    assert failed(verify(out))["adapter would attach"]


def test_sums_that_are_no_text_are_a_problem(embedded):
    (embedded / "SHA256SUMS").write_bytes(b"\xff")
    assert "SHA256SUMS does not agree" in failed(verify(embedded))["files and digests"]


def test_a_lora_alone_cannot_be_loaded(base, artifact, run):
    out = run(base, artifact, "lora").out
    with pytest.raises(VerificationError, match="by itself"):
        verify(out, load=True)
    with pytest.raises(VerificationError, match="--load"):
        verify(out, base=base, artifact=artifact)
