"""The delta in dense weights, beside float64 sums."""

import json

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from exporter.compare.float32_model import load_base
from tests.exporter.conftest import DTYPES, edited
from tinylora import DeltaOptions, load_artifact, restore

SIZE = 3e-3


@pytest.mark.parametrize("format", ["bf16", "fp16", "fp32"])
def test_dense_dtypes_are_as_promised(base, artifact, run, format):
    out = run(base, artifact, format).out
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {DTYPES[format]}
    model = AutoModelForCausalLM.from_pretrained(out)
    assert {p.dtype for p in model.parameters()} == {DTYPES[format]}
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == str(DTYPES[format]).removeprefix("torch.")


def test_dense_weights_are_the_float64_sum_rounded_once(base, artifact, run, references):
    found = references(base, SIZE)
    stored = load_file(run(base, artifact, "fp32").out / "model.safetensors")
    for name, weight in found["seen"].items():
        error = (stored[name].double() - (weight + found["delta"][name])).abs().max()
        assert error < 1e-8
    carried = stored.keys() - found["seen"].keys()
    for name in carried:
        assert torch.equal(stored[name], found["tensors"][name].float())


def test_trainer_numerics_fold_the_rounded_delta(base, artifact, run):
    options = DeltaOptions(numerics="trainer")
    stored = load_file(run(base, artifact, "fp32", options=options).out / "model.safetensors")
    model = load_base(base)
    restoration = restore(model, load_artifact(artifact), options)
    name = "model.layers.1.mlp.down_proj"
    delta = model.get_submodule(name).delta().detach()
    assert torch.equal(delta, delta.bfloat16().float())
    restoration.remove()
    weight = model.get_submodule(name).weight
    seen = dequantize_4bit(weight.data, weight.quant_state).float()
    assert torch.equal(stored[f"{name}.weight"], seen + delta)


@pytest.mark.parametrize("format", ["fp32", "fp16"])
def test_every_name_of_the_dtype_follows_the_export(base, artifact, run, tmp_path, format):
    """A model with more than texts is loaded in what its text_config says."""
    parts = {"vision_config": {"dtype": "bfloat16", "hidden_size": 64}, "other": {"dtype": "int8"}}
    spellings = {"dtype": "bfloat16", "torch_dtype": "bfloat16"}
    out = run(edited(base, tmp_path / "b", **parts, **spellings), artifact, format).out
    found = json.loads((out / "config.json").read_text())
    dtype = str(DTYPES[format]).removeprefix("torch.")
    assert found["dtype"] == found["torch_dtype"] == found["vision_config"]["dtype"] == dtype
    assert found["other"] == parts["other"] and found["vision_config"]["hidden_size"] == 64
