"""Weights in 4 bits, as bitsandbytes has them: both code books, block sizes, nesting."""

import json

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from exporter import verify
from tests.exporter.conftest import same_tensors
from tests.exporter.dense_reference import packed_in, weights_of

SIZE = 0.1
BASES = (("fp4", 64, True), ("fp4", 256, False), ("nf4", 32, True), ("nf4", 128, False))


@pytest.fixture(
    scope="module", params=BASES, ids=lambda b: f"{b[0]}-{b[1]}-{'double' if b[2] else 'single'}"
)
def settings(request):
    return request.param


@pytest.fixture(scope="module")
def base4(settings, base, make_4bit):
    return make_4bit(base, (), *settings)


def stored(directory):
    return load_file(directory / "model.safetensors")


def values(directory):
    """Each 4-bit weight of a checkpoint as bitsandbytes reads it."""
    weights = weights_of(directory)
    return {name: weights[name].double() for name in packed_in(stored(directory))}


def test_merged_keeps_the_kind_and_gets_nearer_to_the_sum(
    base4, settings, make_artifact, run, references, base
):
    artifact = make_artifact(SIZE)
    report = run(base4, artifact, "nf4")
    before, after = stored(base4), stored(report.out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.endswith("_proj.weight") for name in changed)
    # "nf4" means 4 bits as the base has them: config.json and every state say so
    assert (report.out / "config.json").read_bytes() == (base4 / "config.json").read_bytes()
    quant_type, blocksize, double = settings
    states = [json.loads(bytes(t.tolist())) for n, t in after.items() if ".quant_state." in n]
    assert len(states) == 14
    assert {(s["quant_type"], s["blocksize"], "nested_offset" in s) for s in states} == {settings}
    dense = stored(run(base4, artifact, "fp32", name="dense").out)
    old, new = values(base4), values(report.out)
    for name, was in old.items():
        wanted = dense[name].double()
        assert bool(((new[name] - wanted).abs() <= (was - wanted).abs()).all()), name
    model = AutoModelForCausalLM.from_pretrained(report.out)
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            loaded = dequantize_4bit(module.weight.data, module.weight.quant_state).double()
            assert torch.equal(loaded, new[f"{name}.weight"])


def test_dense_and_embedded_compute_what_the_restored_model_does(base4, make_artifact, run):
    artifact = make_artifact(SIZE)
    # loading rounds both factors of an embedded adapter to the base's bfloat16
    for format, limit in {"fp32": 1e-4, "nf4-embedded": 2.0**-8}.items():
        out = run(base4, artifact, format, name=format).out
        report = verify(out, load=True, base=base4, artifact=artifact)
        assert report.ok and report.logits.residual < limit


def test_single_and_double_quantization_in_one_base(base, make_4bit, make_artifact, run):
    base4 = make_4bit(base, double=lambda name: "mlp" in name)
    out = run(base4, make_artifact(SIZE), "nf4").out
    found = stored(out)
    nested = {n.partition(".weight.")[0] for n in found if n.endswith("nested_absmax")}
    assert len(nested) == 6 and all("mlp" in name for name in nested)
    model = AutoModelForCausalLM.from_pretrained(out)
    for name, value in values(out).items():
        weight = model.get_submodule(name.removesuffix(".weight")).weight
        assert torch.equal(dequantize_4bit(weight.data, weight.quant_state).double(), value)


@pytest.mark.parametrize("source", ["base", "base_4bit"])
@pytest.mark.parametrize(("format", "size"), [("nf4", 0.0), ("nf4-embedded", 3e-3)])
def test_a_zero_delta_or_one_beside_it_leaves_the_quantized_base_byte_for_byte(
    format, size, source, base_4bit, make_artifact, run, request
):
    report = run(request.getfixturevalue(source), make_artifact(size), format)
    # base_4bit holds what bitsandbytes' own quantize_4bit makes of the base
    same_tensors(stored(report.out), stored(base_4bit))
    if source == "base_4bit":
        assert (report.out / "config.json").read_bytes() == (base_4bit / "config.json").read_bytes()


def test_odd_sizes_and_a_short_last_block(make_base, make_artifact, run, logits, reference_logits):
    # 2 heads of 6: q 12x20, k/v 6x20; 20·12 and 20·33 are no multiples of 64
    base = make_base(
        hidden_size=20, intermediate_size=33, head_dim=6, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=251,
    )  # fmt: skip
    artifact = make_artifact(3e-3)
    exported = logits(run(base, artifact, "fp32", name="dense").out)
    assert (exported - reference_logits(base, 3e-3)).abs().max() < 1e-5
    merged = run(base, make_artifact(5e-2), "nf4", name="merged")
    assert sum(m.codes_moved for m in merged.fidelity.modules) > 0
    assert bool(torch.isfinite(logits(merged.out)).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_kept_modules_are_in_the_dtype_of_the_model(make_base, make_4bit, artifact, run, dtype):
    base = make_4bit(make_base(dtype))
    out = run(base, artifact, "nf4-mixed", keep=("model.layers.0.mlp.down_proj",)).out
    assert stored(out)["model.layers.0.mlp.down_proj.weight"].dtype == dtype
    assert verify(out, load=True).ok
