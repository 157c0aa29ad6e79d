"""The delta as a LoRA pair, alone and beside the base."""

import json

import torch
from safetensors.torch import load_file

from exporter import verify
from tests.exporter.conftest import bf16_svd

SIZE = 3e-3


def test_lora_is_the_factors_themselves(base, artifact, run, references):
    found = references(base, SIZE)
    out = run(base, artifact, "lora").out
    assert not list(out.glob("model*")) and not (out / "config.json").exists()
    adapter = load_file(out / "adapter_model.safetensors")
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 2
    assert config["base_model_name_or_path"] == "someone/tiny-qwen"
    for name, delta in found["delta"].items():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        a, b = adapter[f"{key}.lora_A.weight"], adapter[f"{key}.lora_B.weight"]
        assert a.dtype == b.dtype == torch.float32 and a.shape[0] == b.shape[1] == 2
        assert torch.equal(a, bf16_svd(found["seen"][name])[2].float())
        assert float((b.double() @ a.double() - delta).norm() / delta.norm()) < 1e-6


def test_verify_sees_the_delta_vanish_from_a_small_nf4(base, make_artifact, run):
    artifact = make_artifact(3e-5)
    out = run(base, artifact, "nf4").out
    report = verify(out, load=True, base=base, artifact=artifact)
    assert report.ok and 0.9 < report.logits.residual < 1.1
