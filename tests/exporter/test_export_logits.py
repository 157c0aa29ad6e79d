"""Exports compute what the restored model computes."""

import json

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from exporter import verify
from tinylora import DeltaOptions, load_artifact, restore

SIZE = 3e-3


def test_fp32_computes_the_float64_reference(base, artifact, run, logits, reference_logits):
    exported = logits(run(base, artifact, "fp32").out)
    assert (exported - reference_logits(base, SIZE)).abs().max() < 1e-5


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


def load_4bit(directory):
    if "quantization_config" in json.loads((directory / "config.json").read_text()):
        return AutoModelForCausalLM.from_pretrained(directory, device_map="cpu")
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
    )
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.bfloat16, quantization_config=settings, device_map="cpu"
    )


@torch.no_grad()
def evaluate(model):
    tokens = torch.arange(24).mul(37).remainder(250).unsqueeze(0)
    return model.eval()(tokens).logits.double()


def base_logits_like(directory):
    return evaluate(load_4bit(directory))


def test_trainer_numerics_fold_the_rounded_delta(base, artifact, run):
    options = DeltaOptions(numerics="trainer")
    stored = load_file(run(base, artifact, "fp32", options=options).out / "model.safetensors")
    model = load_4bit(base)
    restoration = restore(model, load_artifact(artifact), options)
    name = "model.layers.1.mlp.down_proj"
    delta = model.get_submodule(name).delta().detach()
    assert torch.equal(delta, delta.bfloat16().float())
    restoration.remove()
    weight = model.get_submodule(name).weight
    seen = dequantize_4bit(weight.data, weight.quant_state).float()
    assert torch.equal(stored[f"{name}.weight"], seen + delta)
