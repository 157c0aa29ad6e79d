"""What the weight files of an export hold."""

import json

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from exporter.errors import FoldError
from tests.exporter.conftest import bf16_svd

SIZE = 3e-3
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def tensors_of(directory):
    tensors = {}
    for file in sorted(directory.glob("model*.safetensors")):
        tensors |= load_file(file)
    return tensors


def same_tensors(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)), name


@pytest.mark.parametrize("source", ["base", "base_4bit"])
def test_zero_delta_as_nf4_is_the_quantized_base_bit_for_bit(
    source, base_4bit, make_artifact, run, request
):
    report = run(request.getfixturevalue(source), make_artifact(0.0), "nf4")
    # base_4bit holds what bitsandbytes' own quantize_4bit makes of the base
    same_tensors(tensors_of(report.out), tensors_of(base_4bit))
    assert report.verdict == "empty"
    assert report.fidelity.total.capture is None
    total = json.loads((report.out / "fidelity.json").read_text())["total"]
    assert total["capture"] is None and total["residual"] is None and total["codes_moved"] == 0


def test_zero_delta_as_nf4_is_what_transformers_makes_while_loading(base, make_artifact, run):
    out = run(base, make_artifact(0.0), "nf4").out
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, quantization_config=settings, device_map="cpu"
    )
    exported = AutoModelForCausalLM.from_pretrained(out, device_map="cpu")
    names = [name for name, module in model.named_modules() if isinstance(module, Linear4bit)]
    assert len(names) == 14
    stored = tensors_of(out)
    for name in names:
        ours = exported.get_submodule(name)
        assert isinstance(ours, Linear4bit)
        weight = model.get_submodule(name).weight
        for key, tensor in weight.quant_state.as_dict(packed=True).items():
            assert torch.equal(tensor, stored[f"{name}.weight.{key}"]), (name, key)
        assert torch.equal(weight.data, ours.weight.data)


@pytest.mark.parametrize("source", ["base", "base_4bit"])
def test_embedded_base_tensors_are_unchanged(source, base_4bit, artifact, run, request):
    report = run(request.getfixturevalue(source), artifact, "nf4-embedded")
    same_tensors(tensors_of(report.out), tensors_of(base_4bit))
    if source == "base_4bit":
        for name in ("config.json",):
            assert (report.out / name).read_bytes() == (base_4bit / name).read_bytes()


def test_preserve_moves_only_codes(base_4bit, make_artifact, run):
    report = run(base_4bit, make_artifact(5e-2), "nf4")
    before, after = tensors_of(base_4bit), tensors_of(report.out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.endswith("_proj.weight") for name in changed)
    moved = 0
    for name in changed:
        different = before[name] ^ after[name]
        moved += int((different >> 4 != 0).sum() + (different & 15 != 0).sum())
    assert moved == sum(m.codes_moved for m in report.fidelity.modules)
    assert all(m.scales_changed == 0 for m in report.fidelity.modules)


def test_recompute_changes_scales(base_4bit, make_artifact, run):
    report = run(base_4bit, make_artifact(5e-2), "nf4", requantize="recompute")
    assert sum(m.scales_changed for m in report.fidelity.modules) > 0
    total = report.fidelity.total
    assert total.residual_bound is not None and total.residual is not None


@pytest.mark.parametrize("format", ["bf16", "fp16", "fp32"])
def test_dense_dtypes_are_as_promised(base, artifact, run, format):
    out = run(base, artifact, format).out
    assert {t.dtype for t in tensors_of(out).values()} == {DTYPES[format]}
    model = AutoModelForCausalLM.from_pretrained(out)
    assert {p.dtype for p in model.parameters()} == {DTYPES[format]}
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == str(DTYPES[format]).removeprefix("torch.")


def test_dense_weights_are_the_float64_sum_rounded_once(base, artifact, run, references):
    found = references(base, SIZE)
    stored = tensors_of(run(base, artifact, "fp32").out)
    for name, weight in found["seen"].items():
        error = (stored[name].double() - (weight + found["delta"][name])).abs().max()
        assert error < 1e-8
    carried = stored.keys() - found["seen"].keys()
    for name in carried:
        assert torch.equal(stored[name], found["tensors"][name].float())


def test_folding_onto_the_original_weights(base, artifact, run, references):
    found = references(base, SIZE)
    report = run(base, artifact, "fp32", fold_onto="original")
    stored = tensors_of(report.out)
    for name, delta in found["delta"].items():
        error = (stored[name].double() - (found["tensors"][name].double() + delta)).abs().max()
        assert error < 1e-8
    assert (
        json.loads((report.out / "export_manifest.json").read_text())["options"]["fold_onto"]
        == "original"
    )
    assert report.verdict == "kept"


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


def test_fp16_overflow_names_the_tensor(make_base, artifact, run, tmp_path):
    base = make_base()
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.input_layernorm.weight"][3] = 1e5
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FoldError, match=r"layers\.1\.input_layernorm.*float16"):
        run(base, artifact, "fp16")
    assert list(tmp_path.iterdir()) == []
    assert run(base, artifact, "bf16").verdict in ("kept", "partly kept")
