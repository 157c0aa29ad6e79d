"""Bases in other dtypes, sizes and layouts than the usual one."""

import json

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from safetensors.torch import load_file

from tests.exporter.conftest import tensors_of

SIZE = 3e-3


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
