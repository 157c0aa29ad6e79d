"""The delta as a LoRA pair, alone and beside the base."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from exporter import verify
from tests.exporter.conftest import bf16_svd
from tests.exporter.load_4bit import load_4bit

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


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # from peft
@pytest.mark.parametrize("source", ["base", "base_4bit"])
def test_embedded_and_lora_compute_the_reference(
    source, base, make_artifact, run, logits, reference_logits, request
):
    from peft import PeftModel

    where, size = request.getfixturevalue(source), 0.1
    artifact = make_artifact(size)
    wanted, plain = reference_logits(base, size), reference_logits(base, 0.0)
    change = (wanted - plain).norm()
    embedded = run(where, artifact, "nf4-embedded", name="embedded").out
    model = AutoModelForCausalLM.from_pretrained(embedded)
    assert model.peft_config
    # the layers run in bf16 or fp16: what the adapter changes must come out of that noise
    without = base_logits_like(where)
    assert ((logits(embedded) - without) - (wanted - plain)).norm() < 0.2 * change
    lora = run(where, artifact, "lora", name="lora").out
    attached = PeftModel.from_pretrained(load_4bit(where), lora)
    assert ((evaluate(attached) - without) - (wanted - plain)).norm() < 0.2 * change


def test_exports_agree_with_the_restored_model(base, artifact, run):
    for format, limit in {"fp32": 5e-4, "nf4-embedded": 2e-3, "fp16": 0.1}.items():
        out = run(base, artifact, format, name=format).out
        report = verify(out, load=True, base=base, artifact=artifact)
        assert report.ok, report.checks
        assert report.logits.residual < limit


def test_verify_sees_the_delta_vanish_from_a_small_nf4(base, make_artifact, run):
    artifact = make_artifact(3e-5)
    out = run(base, artifact, "nf4").out
    report = verify(out, load=True, base=base, artifact=artifact)
    assert report.ok and 0.9 < report.logits.residual < 1.1


@torch.no_grad()
def evaluate(model):
    tokens = torch.arange(24).mul(37).remainder(250).unsqueeze(0)
    return model.eval()(tokens).logits.double()


def base_logits_like(directory):
    return evaluate(load_4bit(directory))
