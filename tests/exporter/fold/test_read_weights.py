"""Bases in other dtypes, sizes and layouts than the usual one."""

import json

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from safetensors.torch import load_file

from tests.exporter.conftest import tensors_of
from tests.lora_adapters import pefts_deltas, save_lora


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_dtypes_pass_through_bf16_as_in_training(dtype, make_base, make_artifact, run):
    base = make_base(dtype)
    out = run(base, make_artifact(0.0), "nf4").out
    stored, source = tensors_of(out), load_file(base / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    packed, state = quantize_4bit(
        source[name].bfloat16(), compress_statistics=True, quant_type="nf4"
    )
    assert torch.equal(stored[name], packed) and torch.equal(stored[f"{name}.absmax"], state.absmax)
    norm = "model.norm.weight"
    assert torch.equal(stored[norm], source[norm].bfloat16())
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_lora_is_added_to_weights_as_they_are_stored(make_base, run, tmp_path):
    """A float32 base does not pass through bfloat16 then."""
    base = make_base(torch.float32)
    adapter, model = save_lora(tmp_path / "lora", base)
    stored, deltas = tensors_of(run(base, adapter, "fp32").out), pefts_deltas(model)
    for name, weight in load_file(base / "model.safetensors").items():
        wanted = weight + deltas.get(name.removesuffix(".weight"), 0)
        torch.testing.assert_close(stored[name].double(), wanted.double(), rtol=0, atol=1e-6)
