"""Bases in other dtypes, sizes and layouts than the usual one."""

import json

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

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


def test_a_target_that_the_base_keeps_in_16_bits_is_folded_dense(
    base, artifact, run, tmp_path, make_base
):
    skipped = "model.layers.0.mlp.up_proj"
    base4 = tmp_path / "tiny-qwen-mixed"
    zero = run(base, artifact, "nf4-embedded", name="e").out
    base4.mkdir()
    tensors = {n: t for n, t in tensors_of(zero).items() if not n.startswith(skipped)}
    tensors[f"{skipped}.weight"] = load_file(base / "model.safetensors")[f"{skipped}.weight"]
    save_file(tensors, base4 / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((zero / "config.json").read_text())
    config["quantization_config"]["llm_int8_skip_modules"] = ["lm_head", skipped]
    (base4 / "config.json").write_text(json.dumps(config))
    report = run(base4, artifact, "nf4", name="mixed")
    stored = tensors_of(report.out)
    assert stored[f"{skipped}.weight"].dtype == torch.bfloat16
    assert not torch.equal(stored[f"{skipped}.weight"], tensors[f"{skipped}.weight"])
    model = AutoModelForCausalLM.from_pretrained(report.out)
    assert not isinstance(model.get_submodule(skipped), Linear4bit)
