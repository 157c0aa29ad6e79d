"""Bases and artifacts that are damaged, incomplete or hostile: refused, and nothing is left."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporter import ExportRequest, export
from exporter.errors import (
    CheckpointError,
    CheckpointMissingError,
    DiskFullError,
    FoldError,
    PlanError,
)
from tinylora import TinyLoRAError


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


def rewrite_state(base, directory, name, change):
    """Copy a 4-bit base, with another quantization state of one weight."""
    shutil.copytree(base, directory)
    path = directory / "model.safetensors"
    tensors = load_file(path)
    key = f"{name}.quant_state.bitsandbytes__nf4"
    state = json.dumps(change(json.loads(bytes(tensors[key].tolist()))))
    tensors[key] = torch.frombuffer(bytearray(state.encode()), dtype=torch.uint8)
    save_file(tensors, path, metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize("format", ["nf4", "nf4-embedded", "bf16", "lora"])
def test_a_4_bit_weight_of_another_shape(format, base_4bit, artifact, tmp_path):
    """As many elements, but transposed: the blocks would be those of another weight."""
    name = "model.layers.0.mlp.gate_proj.weight"
    base4 = rewrite_state(
        base_4bit, tmp_path / "b", name, lambda state: state | {"shape": state["shape"][::-1]}
    )
    match = rf"model\.safetensors: .*'{name}' says shape \[64, 160\], .*\[160, 64\]"
    with pytest.raises(CheckpointError, match=match):
        export(ExportRequest(base4, artifact, tmp_path / "out", format=format))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change", [{"nested_blocksize": 0}, {"nested_offset": "x"}, {"blocksize": 3}], ids=str
)
def test_a_damaged_quantization_state_names_its_file(change, base_4bit, artifact, tmp_path):
    name = "model.layers.1.self_attn.q_proj.weight"
    base4 = rewrite_state(base_4bit, tmp_path / "b", name, lambda state: state | change)
    match = rf"model\.safetensors: {name}: quantization state .*download it again"
    with pytest.raises(CheckpointError, match=match):
        export(ExportRequest(base4, artifact, tmp_path / "out", format="nf4"))


def test_a_value_too_large_for_the_trainers_dtype(make_base, artifact, tmp_path):
    """Every format passes through bfloat16, so no other format helps."""
    base32 = make_base(torch.float32)
    for name in (Q0, "model.norm.weight"):

        def enlarge(tensors, name=name):
            tensors[name].view(-1)[7] = 3.4e38  # above the largest bfloat16

        shutil.copytree(base32, tmp_path / name)
        change(tmp_path / name, enlarge)
        with pytest.raises(FoldError, match="does not fit") as refused:
            export(ExportRequest(tmp_path / name, artifact, tmp_path / "out", format="nf4"))
        said = str(refused.value)
        assert f"model.safetensors: tensor '{name}'" in said and "download" in said
        assert "export as" not in said


def test_a_value_too_large_for_fp16_names_wider_formats(copy, artifact, tmp_path):
    change(copy, lambda tensors: tensors[Q0].view(-1).__setitem__(7, 7e4))
    with pytest.raises(FoldError, match=r"model\.safetensors: tensor .*bf16 or fp32"):
        export(ExportRequest(copy, artifact, tmp_path / "out", format="fp16"))
