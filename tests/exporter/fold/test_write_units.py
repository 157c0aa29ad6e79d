"""Exports hold the delta that was trained, for every formula, stream, device map and base.

The references share no code with the packages: P in plain integers, the trainer's own SVD, products
in float64. The base has the 252 modules of a real one.
"""

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from exporter import ExportRequest, export
from exporter.errors import PlanError
from tests.exporter.conftest import SUFFIXES, reference_delta, seen_weight
from tests.lora_adapters import lora_deltas
from tests.tinylora import plain_projections
from tinylora import DeltaOptions, FactorStore, load_artifact, restore
from tinylora.errors import OptionsError

LAYERS, RANK, U, SEED = 36, 2, 8, 42
NAMES = [f"model.layers.{i}.{suffix}" for i in range(LAYERS) for suffix in SUFFIXES]
VECTOR = (torch.linspace(-1, 1.3, U) * 3e-3).to(torch.bfloat16)
SPLIT = {"model.embed_tokens": 0} | {f"model.layers.{i}": int(i >= 20) for i in range(LAYERS)}


@pytest.fixture(scope="module")
def deep_base(make_base):
    return make_base(num_hidden_layers=LAYERS, hidden_size=32, intermediate_size=64)


@pytest.fixture(scope="module")
def weights(deep_base):
    """Every weight as training in 4 and in 16 bits had it."""
    tensors = load_file(deep_base / "model.safetensors")
    return {
        "4bit": {name: seen_weight(tensors[f"{name}.weight"]) for name in NAMES},
        "16bit": {name: tensors[f"{name}.weight"] for name in NAMES},
    }


def assert_trained(report, weights, formula, tolerance, draws=None, vector=VECTOR, seed=SEED):
    """Each delta is the trainer's; ``draws``: which draw of its device's stream each P was."""
    found = lora_deltas(report.out)
    shape = (len(vector), RANK, RANK) if formula == "full" else (len(vector), RANK)
    scale = math.sqrt(RANK) if formula == "diagonal" else 1.0
    for name, draw in zip(NAMES, draws or range(len(NAMES)), strict=True):
        bits = plain_projections.projection(seed, draw, math.prod(shape), scale)
        values = torch.tensor([plain_projections.bf16_value(b) for b in bits], dtype=torch.float64)
        wanted = reference_delta(weights[name], values.view(shape), vector)
        assert (found[name] - wanted).norm() <= tolerance * wanted.norm(), name


@pytest.fixture(scope="module")
def upstream(make_artifact):
    """An artifact as the trainers write it, with nothing but what is given."""
    known = {"layers": len(NAMES), "saved_device": "cuda:0", "formula": None}
    return lambda **fields: make_artifact(3e-3, **(known | fields))


@pytest.fixture(scope="module")
def exported(deep_base, upstream, tmp_path_factory):
    """``exported(format, options, **fields of the artifact)``; factors are computed once."""
    store = tmp_path_factory.mktemp("factors")

    def call(format, options=DeltaOptions(), artifact=None, **fields):  # noqa: B008
        folder = tmp_path_factory.mktemp("export")
        artifact = artifact or upstream(**fields)
        request = ExportRequest(
            deep_base, artifact, folder / "out", format, options=options, factor_store=store
        )
        return export(request)

    return call


@pytest.mark.parametrize(
    ("fields", "options", "formula", "trained_on", "split"),
    [
        ({"formula": "full"}, {}, "full", "4bit", False),
        ({"formula": "diagonal"}, {}, "diagonal", "4bit", False),
        ({"is_quantized": True}, {}, "diagonal", "4bit", False),
        ({"formula": "diagonal-unscaled"}, {}, "diagonal-unscaled", "4bit", False),
        ({}, {"formula": "diagonal-unscaled"}, "diagonal-unscaled", "4bit", False),
        ({"is_quantized": False}, {}, "diagonal", "16bit", False),
        ({"formula": "full"}, {"trained_on": "16bit"}, "full", "16bit", False),
        ({"formula": "full"}, {"placement": SPLIT}, "full", "4bit", True),
        ({"is_quantized": False}, {"placement": SPLIT}, "diagonal", "16bit", True),
    ],
)
@pytest.mark.parametrize(("svd", "tolerance"), [("exact", 1e-5), ("auto", 2**-8)])
def test_a_lora_holds_the_trained_delta(
    exported, weights, fields, options, formula, trained_on, split, svd, tolerance
):
    report = exported("lora", DeltaOptions(svd=svd, **options), **fields)
    assert (report.resolved.formula, report.resolved.trained_on) == (formula, trained_on)
    draws = [*range(7 * 20), *range(7 * (LAYERS - 20))] if split else None
    assert_trained(report, weights[trained_on], formula, tolerance, draws)


@pytest.mark.parametrize("format", ["nf4", "nf4-embedded", "bf16", "lora", "peft-tinylora"])
def test_nothing_is_written_where_no_formula_is_known(upstream, deep_base, tmp_path, format):
    with pytest.raises(OptionsError, match="--formula"):
        export(ExportRequest(deep_base, upstream(), tmp_path / "out", format))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "formula", "seed"),
    [("luogu/tiny_lora_v.pt", "full", 42), ("upstream/tiny_lora_v.seed212.pt", "diagonal", 212)],
)
def test_a_published_artifact_holds_its_trainers_delta(
    exported, weights, shared_data, file, formula, seed
):
    artifact = shared_data.parent / file
    if not artifact.is_file():
        pytest.skip(f"{file} is not here")
    vector = torch.load(artifact, map_location="cpu", weights_only=True)["global_v"]
    report = exported("lora", DeltaOptions(svd="exact"), artifact)
    assert_trained(report, weights["4bit"], formula, 1e-5, vector=vector, seed=seed)


@pytest.mark.parametrize(("format", "eps"), [("fp32", 0), ("bf16", 2**-8)])
def test_a_dense_export_of_16bit_training_is_the_restored_model(
    exported, upstream, deep_base, tmp_path, format, eps
):
    artifact = upstream(is_quantized=False)
    stored = load_file(exported(format, artifact=artifact).out / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(deep_base, dtype=torch.bfloat16)
    restore(model, load_artifact(artifact), store=FactorStore(tmp_path / "factors"))
    for name in NAMES:
        wrapper = model.get_submodule(name)
        wanted = wrapper.weight.double() + wrapper.delta().double()
        found = stored[f"{name}.weight"].double()
        if format == "fp32":
            change = wrapper.delta().double().norm()
            assert (found - wanted).norm() <= min(1e-6 * wanted.norm(), 1e-3 * change), name
        assert ((found - wanted).abs() <= eps * wanted.abs() + 1e-7).all(), name
    base = load_file(deep_base / "model.safetensors")
    for name in stored.keys() - {f"{name}.weight" for name in NAMES}:
        assert torch.equal(stored[name].float(), base[name].float())


def test_16bit_training_on_4bit_formats_keeps_the_trained_delta(exported, weights):
    report = exported("nf4-embedded", is_quantized=False)
    assert any("went through 4 bits" in warning for warning in report.warnings)
    assert_trained(report, weights["16bit"], "diagonal", 2**-8)


def test_16bit_training_needs_the_16bit_base(base_4bit, make_artifact, run, tmp_path):
    with pytest.raises(PlanError, match="give the 16-bit base"):
        run(base_4bit, make_artifact(3e-3, is_quantized=False), "fp32")
    assert not (tmp_path / "out").exists()
    options = DeltaOptions(trained_on="4bit")
    run(base_4bit, make_artifact(3e-3, is_quantized=False), "nf4", options=options)
