"""PEFT's dialect in and out: PEFT itself makes the adapters and says what is right."""

import json

import pytest
import torch
from peft import PeftModel, TinyLoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from exporter import verify
from tests.exporter.conftest import DTYPES, TOKENS, same_tensors, tensors_of
from tests.lora_adapters import lora_deltas, pefts_deltas
from tests.tinylora.conftest import peft_model, plain
from tinylora import DeltaOptions, load_adapter


@pytest.fixture(scope="session")
def make_adapter(base, tmp_path_factory):
    """``make_adapter(**config)``: PEFT's directory for the base, with random vectors."""

    def make(size=0.05, **changes):
        directory = tmp_path_factory.mktemp("peft") / "adapter"
        settings = {"u": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]}
        model = peft_model(base, size=size, **(settings | changes))
        model.peft_config["default"].base_model_name_or_path = "someone/tiny-qwen"
        # otherwise PEFT would look for that base on a hub
        model.save_pretrained(directory, save_embedding_layers=False)
        return directory

    return make


@pytest.fixture(scope="session")
def adapter(make_adapter):
    return make_adapter()


def deltas_on(base_model, adapter):
    """PEFT's own delta of each module, from its directory."""
    return pefts_deltas(PeftModel.from_pretrained(base_model, adapter))


def assert_equal_deltas(found, wanted):
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        assert delta.norm() > 0
        assert (found[name] - delta).norm() <= 1e-6 * delta.norm(), name


# --- in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "fold_onto"), [("bf16", "auto"), ("fp32", "original"), ("fp32", "dequantized")]
)
def test_dense_merges_equal_pefts(base, adapter, run, references, format, fold_onto):
    report = run(base, adapter, format, fold_onto=fold_onto)
    seen = references(base, 0.0)["seen"]
    theirs = plain(base)
    if fold_onto == "dequantized":
        theirs.load_state_dict({n: w.float() for n, w in seen.items()}, strict=False)
    merged = PeftModel.from_pretrained(theirs, adapter).merge_and_unload().state_dict()
    deltas = deltas_on(plain(base), adapter)
    # neighbouring numbers of the dtype at most, and float32's rounding in PEFT's own delta
    spacing = torch.finfo(DTYPES[format]).eps
    for name, tensor in tensors_of(report.out).items():
        assert tensor.dtype == DTYPES[format]
        wanted, delta = merged[name].double(), deltas.get(name.removesuffix(".weight"))
        allowed = spacing * wanted.abs() + (1e-6 * delta.abs().max() if delta is not None else 0)
        assert ((tensor.double() - wanted).abs() <= allowed).all(), name
    assert len(deltas) == 6
    assert any("went through 4 bits" in w for w in report.warnings) == (fold_onto == "dequantized")


def test_merging_onto_a_4bit_base_which_peft_cannot(base, base_4bit, adapter, run, references):
    deltas, seen = deltas_on(plain(base), adapter), references(base, 0.0)["seen"]
    stored = tensors_of(run(base_4bit, adapter, "fp32").out)
    for name, delta in deltas.items():
        wanted = seen[f"{name}.weight"] + delta
        assert (stored[f"{name}.weight"].double() - wanted).abs().max() < 1e-7
    untouched = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(stored[untouched].double(), seen[untouched])


@pytest.mark.parametrize("source", ["base", "base_4bit"])
def test_the_delta_as_lora_and_embedded(source, base, make_adapter, run, request):
    directory = make_adapter(r=40, u=3, save_projection=False)  # v_proj is 32 x 64
    wanted = deltas_on(plain(base), directory)
    for format in ("lora", "nf4-embedded"):
        report = run(request.getfixturevalue(source), directory, format, name=format)
        assert report.verdict == "kept" and report.resolved is None
        assert_equal_deltas(lora_deltas(report.out), wanted)
        assert verify(report.out).ok
    AutoModelForCausalLM.from_pretrained(report.out)
    assert json.loads((report.out / "adapter_config.json").read_text())["r"] == 40


def test_nf4_and_what_the_documents_say(base_4bit, make_adapter, run):
    report = run(base_4bit, make_adapter(size=0.5), "nf4")
    assert sum(m.codes_moved for m in report.fidelity.modules) > 0
    fidelity = json.loads((report.out / "fidelity.json").read_text())
    assert "stored in the adapter" in fidelity["total"]["factors"]
    assert {module["spectrum"] for module in fidelity["modules"]} == {None}
    manifest = json.loads((report.out / "export_manifest.json").read_text())
    assert manifest["artifact"]["dialect"] == "peft" and manifest["lapack"] == []
    assert manifest["options"]["formula"] is manifest["options"]["numerics"] is None
    assert manifest["artifact"]["model_id"] == "someone/tiny-qwen"
    assert not report.warnings or "names no base" not in " ".join(report.warnings)


def test_an_untied_head_is_a_linear_layer_like_others(make_base, tmp_path, run):
    base = make_base(tie_word_embeddings=False)
    config = TinyLoraConfig(r=1, u=2, target_modules=["lm_head"], init_weights="uniform")
    model = get_peft_model(plain(base), config)
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    wanted = deltas_on(plain(base), tmp_path / "adapter")["lm_head"]
    before = tensors_of(base)["lm_head.weight"].double()
    for format in ("fp32", "nf4"):
        out = run(base, tmp_path / "adapter", format, name=format, fold_onto="dequantized").out
        error = (tensors_of(out)["lm_head.weight"].double() - before - wanted).abs().max()
        assert error < (1e-7 if format == "fp32" else 1e-3)


# --- out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "dtype"), [("full", torch.float32), ("diagonal", torch.bfloat16)]
)
def test_upstreams_artifact_to_peft_and_back(base, artifact, run, formula, dtype):
    options = DeltaOptions(formula=formula)
    report = run(base, artifact, "peft-tinylora", options=options)
    assert report.verdict == "kept" and report.fidelity.total.residual < 1e-6
    assert verify(report.out).ok
    wanted = lora_deltas(run(base, artifact, "lora", name="lora", options=options).out)
    loaded = deltas_on(plain(base, dtype), report.out)
    assert len(wanted) == 14
    assert_equal_deltas(loaded, wanted)  # on 16-bit bases too: PEFT keeps the parts in float32
    again = run(base, report.out, "peft-tinylora", name="again").out
    same_tensors(*(load_file(d / "adapter_model.safetensors") for d in (again, report.out)))
    assert_equal_deltas(lora_deltas(run(base, report.out, "lora", name="l2").out), wanted)


@pytest.mark.parametrize(("weight_tying", "save_projection"), [(0.3, True), (1.0, False)])
def test_peft_to_peft_is_the_same_adapter(base, make_adapter, run, weight_tying, save_projection):
    directory = make_adapter(weight_tying=weight_tying, save_projection=save_projection, r=40)
    out = run(base, directory, "peft-tinylora").out
    assert_equal_deltas(deltas_on(plain(base), out), deltas_on(plain(base), directory))
    with torch.no_grad():
        theirs, ours = (
            PeftModel.from_pretrained(plain(base), d).eval()(TOKENS).logits
            for d in (directory, out)
        )
    assert torch.equal(theirs, ours)
    assert load_adapter(out).config.save_projection
