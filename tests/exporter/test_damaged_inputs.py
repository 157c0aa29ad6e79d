"""Bases and artifacts that are damaged, incomplete or hostile: refused, and nothing is left."""

import json
import os
import shutil

import pytest
import torch

from exporter import ExportRequest, export
from exporter.errors import (
    CheckpointError,
    CheckpointMissingError,
    DiskFullError,
    FoldError,
    PlanError,
)
from tests.exporter.conftest import edited
from tinylora import TinyLoRAError

Q0 = "model.layers.0.self_attn.q_proj.weight"
UP0 = "model.layers.0.mlp.gate_proj.weight"
STATE = ".quant_state.bitsandbytes__nf4"


def refuse(base, artifact, tmp_path, error, match, format="nf4"):
    out = tmp_path / "out" / "x"
    with pytest.raises(error, match=match) as caught:
        export(ExportRequest(base, artifact, out, format=format))
    assert isinstance(caught.value, TinyLoRAError)
    assert not out.parent.exists() or not list(out.parent.iterdir())


def value(name, number):
    return lambda tensors: tensors[name].view(-1).__setitem__(7, number)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda t: t.pop(Q0), PlanError, r"layers\.0\.self_attn\.q_proj.*missing"),
        (lambda t: t.update({Q0: torch.ones(64, 63)}), PlanError, r"\[64, 63\].*\[64, 64\]"),
        (value(Q0, float("nan")), FoldError, r"layers\.0\.self_attn\.q_proj"),
        (value("model.norm.weight", float("inf")), FoldError, r"model\.norm"),
    ],
)
def test_bad_tensors_are_named(change, error, match, base, artifact, tmp_path):
    refuse(edited(base, tmp_path / "tiny-qwen", change), artifact, tmp_path, error, match)


def test_hostile_artifact(base, tmp_path):
    artifact = tmp_path / "a.pt"
    torch.save({"global_v": os.system}, artifact)
    refuse(base, artifact, tmp_path, TinyLoRAError, "a.pt")
    artifact.write_bytes(b"PK\x03\x04 not a zip")
    refuse(base, artifact, tmp_path, TinyLoRAError, "a.pt")
    refuse(base, tmp_path / "none.pt", tmp_path, FileNotFoundError, "none.pt")


def test_missing_and_truncated_files(base, artifact, tmp_path):
    copy = edited(base, tmp_path / "tiny-qwen")
    refuse(copy / "nowhere", artifact, tmp_path, CheckpointMissingError, "nowhere")
    config, weights = (copy / "config.json").read_bytes(), copy / "model.safetensors"
    (copy / "config.json").unlink()
    refuse(copy, artifact, tmp_path, CheckpointMissingError, "config.json")
    (copy / "config.json").write_bytes(config)
    weights.write_bytes(weights.read_bytes()[:-100])
    refuse(copy, artifact, tmp_path, CheckpointError, "model.safetensors.*download")
    weights.rename(copy / "pytorch_model.bin")
    refuse(copy, artifact, tmp_path, CheckpointMissingError, "convert it to safetensors")


@pytest.mark.parametrize(
    "config", [{"model_type": "qwen99"}, {"quantization_config": {"quant_method": "gptq"}}]
)
def test_unknown_architectures_and_quantizations(config, base, artifact, tmp_path):
    copy = edited(base, tmp_path / "tiny-qwen", **config)
    refuse(copy, artifact, tmp_path, CheckpointError, "qwen99|gptq")


def test_a_base_with_an_adapter_is_refused(base, artifact, tmp_path, run):
    embedded = run(base, artifact, "nf4-embedded", name="tiny-qwen").out
    refuse(embedded, artifact, tmp_path, CheckpointError, "adapter already")


def test_disk_too_small(base, artifact, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match="needs 0.00 GB"):
        export(ExportRequest(base, artifact, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def state(name, **fields):
    """Change fields of the quantization state of a weight."""

    def change(tensors):
        found = json.loads(bytes(tensors[name + STATE].tolist())) | fields
        raw = bytearray(json.dumps(found).encode())
        tensors[name + STATE] = torch.frombuffer(raw, dtype=torch.uint8)

    return change


@pytest.mark.parametrize("format", ["nf4", "bf16", "lora"])
def test_a_4_bit_weight_of_another_shape(format, base_4bit, artifact, tmp_path):
    """As many elements, but transposed: the blocks would be those of another weight."""
    base4 = edited(base_4bit, tmp_path / "b", state(UP0, shape=[64, 160]))
    match = rf"model\.safetensors: .*'{UP0}' says shape \[64, 160\], .*\[160, 64\]"
    refuse(base4, artifact, tmp_path, CheckpointError, match, format)


def test_a_damaged_quantization_state_names_its_file(base_4bit, artifact, tmp_path):
    base4 = edited(base_4bit, tmp_path / "b", state(Q0, blocksize=3))
    match = rf"model\.safetensors: {Q0}: quantization state .*download it again"
    refuse(base4, artifact, tmp_path, CheckpointError, match)


@pytest.mark.parametrize("name", [Q0, "model.norm.weight"])
@pytest.mark.parametrize(
    ("format", "number", "words"),
    [  # every format passes through bfloat16, so no other one helps
        ("nf4", 3.4e38, "does not fit .*download"),
        ("fp16", 7e4, "float16.*bf16 or fp32"),
    ],
)
def test_a_value_too_large_for_a_dtype(name, format, number, words, make_base, artifact, tmp_path):
    base32 = edited(make_base(torch.float32), tmp_path / "b", value(name, number))
    match = rf"model\.safetensors: tensor '{name}'.*{words}"
    refuse(base32, artifact, tmp_path, FoldError, match, format)
