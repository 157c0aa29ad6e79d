"""The restored model: against dense references, differentiable, removable, in 4 bit too."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from tests.tinylora.conftest import four_bit, plain, save_vector
from tinylora import (
    AdapterDeltas,
    DeltaOptions,
    QuantizedWeight,
    TinyLoRAGlobalParams,
    TinyLoRALinear,
    apply_tiny_lora,
    load_artifact,
    restore,
    target_names,
)
from tinylora.errors import (
    OptionsError,
    QuantizedWeightError,
    RestoreError,
    TargetMismatchError,
)
from tinylora.models.pretrained import trainer_nf4
from tinylora.workers import single_threaded

IDS = torch.arange(2, 26).view(2, 12)


@pytest.mark.parametrize("formula", ["full", "diagonal"])
def test_restored_and_folded_logits_equal_a_dense_float64_model(tiny_base, artifact, formula):
    model, options = plain(tiny_base), DeltaOptions(formula=formula)
    deltas = AdapterDeltas(artifact, target_names(model), options)
    reference = copy.deepcopy(model).double()
    for name in deltas.names:
        weight = model.get_submodule(name).weight.detach()
        reference.get_submodule(name).weight.data += deltas.delta(name, weight).dense().double()
    with torch.no_grad():
        base, expected = model(IDS).logits, reference(IDS).logits
        restoration = restore(model, artifact, options)
        restored = model(IDS).logits
        restoration.fold()
        folded = model(IDS).logits
    change = (expected - base.double()).norm()
    assert change > 1e-3
    for logits in (restored, folded):
        assert (logits.double() - expected).norm() <= 1e-3 * change
    assert not any(isinstance(module, TinyLoRALinear) for module in model.modules())


@pytest.mark.parametrize("dtype", [None, torch.int8, torch.float8_e4m3fn])
def test_a_delta_is_not_folded_into_codes(tiny_base, artifact, dtype):
    model = plain(tiny_base) if dtype else four_bit(tiny_base)
    restoration = restore(model, artifact)
    layer = model.get_submodule(restoration.wrapped[-1])
    if dtype:
        layer.base_layer.weight = nn.Parameter(layer.weight.to(dtype), requires_grad=False)
    with pytest.raises(RestoreError, match="cannot be added to codes"):
        restoration.fold()
    assert model.get_submodule(restoration.wrapped[-1]) is layer


def test_a_4bit_base_is_restored_on_its_dequantized_weights(tiny_base, artifact):
    model = four_bit(tiny_base)
    names = target_names(model)
    weights = {n: QuantizedWeight.from_module(model.get_submodule(n)) for n in names}
    deltas = AdapterDeltas(artifact, names)
    assert restore(model, artifact).wrapped == tuple(names)
    for name in names:
        wrapper = model.get_submodule(name)
        with single_threaded():  # another number of threads flips a bf16 digit of a factor
            expected = deltas.delta(name, weights[name]).dense()
        assert (wrapper.delta() - expected).norm() <= 1e-6 * expected.norm()
        assert wrapper.weight is wrapper.base_layer.weight


@pytest.mark.parametrize("trained_on", ["4bit", "16bit"])
def test_doubtful_options_are_said(tiny_base, artifact, trained_on, caplog):
    """An export made with the same options would agree with this model, whatever they are."""
    options = DeltaOptions(trained_on=trained_on)
    same, other = (four_bit, plain) if trained_on == "4bit" else (plain, four_bit)
    with restore(same(tiny_base), artifact, options):
        assert caplog.text == ""
    with restore(other(tiny_base), artifact, options):
        assert "singular vectors are others" in caplog.text
    with restore(same(tiny_base), artifact, replace(options, svd="fast")):
        assert "tiny_lora_v.pt: svd fast with formula full" in caplog.text


def test_layers_that_a_4bit_base_leaves_in_16_bits_are_no_doubt(tiny_base, artifact, caplog):
    settings = trainer_nf4()
    settings.llm_int8_skip_modules = ["model.layers.0", "lm_head"]
    model = AutoModelForCausalLM.from_pretrained(
        tiny_base, quantization_config=settings, dtype=torch.bfloat16
    )
    with restore(model, artifact):
        assert "singular vectors" not in caplog.text


@pytest.mark.parametrize("load", [plain, four_bit])
def test_removing_gives_back_the_very_same_modules(tiny_base, artifact, load):
    model = load(tiny_base)
    before = dict(model.named_modules())
    state = {k: v.clone() for k, v in model.state_dict().items()}
    restoration = restore(model, artifact)
    assert isinstance(model.get_submodule(restoration.wrapped[0]), TinyLoRALinear)
    restoration.remove()
    restoration.remove()  # a second time does nothing
    assert dict(model.named_modules()) == before
    after = model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[k], v) for k, v in state.items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_zero_vector_leaves_the_logits_exactly_alone(tiny_base, artifact, dtype):
    model = plain(tiny_base, dtype)
    with torch.no_grad():
        base = model(IDS).logits
        restore(model, artifact).global_params.global_v.zero_()
        assert torch.equal(model(IDS).logits, base)


@pytest.mark.parametrize("numerics", ["fp32", "trainer"])
def test_gradients_reach_the_shared_vector_alone(tiny_base, artifact, numerics):
    model = plain(tiny_base)
    restoration = restore(model, artifact, DeltaOptions(numerics=numerics))
    model.requires_grad_(False)
    vector = restoration.global_params.global_v.requires_grad_(True)
    assert [p for p in model.parameters() if p.requires_grad] == [vector]
    model(IDS).logits.square().sum().backward()
    assert vector.grad.abs().min() > 0
    with torch.inference_mode():
        evaluated = model(IDS).logits
    assert torch.equal(evaluated, model(IDS).logits.detach())


@pytest.mark.parametrize("numerics", ["fp32", "trainer"])
def test_a_restored_model_can_be_cast(tiny_base, artifact, numerics):
    model = plain(tiny_base)
    restored = restore(model, artifact, DeltaOptions(numerics=numerics))
    layer = model.get_submodule(restored.wrapped[0])
    with torch.no_grad():
        delta = layer.delta()
        for dtype in (torch.float64, torch.bfloat16, torch.float16):
            model.to(dtype)
            assert torch.equal(layer.delta(), delta)
            assert model(IDS).logits.dtype == dtype


PUBLISHED_SNIPPET = """
sd = torch.load(ARTIFACT, map_location="cpu", weights_only=True)
from tinylora import TinyLoRAGlobalParams, apply_tiny_lora

device = model.model.layers[0].self_attn.q_proj.weight.device
global_params = TinyLoRAGlobalParams(u_dim=sd["u_value"], device=device, dtype=torch.bfloat16)
with torch.no_grad():
    global_params.global_v.copy_(sd["global_v"].to(global_params.global_v.dtype).to(device))
torch.manual_seed(sd["seed"])
apply_tiny_lora(model, global_params)
"""


def test_the_published_restore_snippet(tiny_base, artifact):
    """Only its import line differs; P is the GPU's although this machine may have none."""
    model, other = four_bit(tiny_base), four_bit(tiny_base)
    with torch.random.fork_rng(devices=[]):
        exec(PUBLISHED_SNIPPET, {"torch": torch, "ARTIFACT": str(artifact.path), "model": model})
    for name in restore(other, artifact).wrapped:
        assert torch.equal(model.get_submodule(name).delta(), other.get_submodule(name).delta())
    assert torch.equal(model(IDS).logits, other(IDS).logits)


def test_apply_tiny_lora_counts_and_leaves_the_random_state(tiny_base):
    model = plain(tiny_base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(42)
        before = torch.get_rng_state()
        count = apply_tiny_lora(model, TinyLoRAGlobalParams(u_dim=8), rank=3, formula="diagonal")
        assert torch.equal(before, torch.get_rng_state())
    assert count == 14
    assert model.model.layers[0].mlp.up_proj.P.shape == (8, 3)
    with pytest.raises(OptionsError, match="needs formula="):
        apply_tiny_lora(plain(tiny_base), TinyLoRAGlobalParams(u_dim=8), 2)
    with pytest.raises(RestoreError, match="no target module"):
        apply_tiny_lora(nn.Sequential(nn.Linear(4, 4)), TinyLoRAGlobalParams(8))


def test_a_second_adapter_and_a_wrapper_on_top_are_refused(tiny_base, artifact):
    model = plain(tiny_base)
    restoration = restore(model, artifact)
    with pytest.raises(RestoreError, match="already"):
        restore(model, artifact)
    attention = model.model.layers[0].self_attn
    ours = attention.q_proj
    attention.q_proj = nn.Sequential(ours)
    with pytest.raises(RestoreError, match="q_proj"):
        restoration.remove()
    attention.q_proj = ours
    restoration.remove()


def test_a_base_that_cannot_be_restored_is_left_as_it_was(tiny_base, artifact, tmp_path):
    other = save_vector(tmp_path / "v.pt", model_id="qwen/other", total_replaced_layers=252)
    model = four_bit(tiny_base)
    with pytest.raises(TargetMismatchError, match=r"14 target modules.*252.*qwen/other"):
        restore(model, load_artifact(other))
    # what bitsandbytes does to a weight in a CPU forward pass on some processors
    model.model.layers[1].mlp.down_proj.weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(QuantizedWeightError, match="repacked"):
        restore(model, artifact)
    assert not any(isinstance(m, TinyLoRALinear) for m in model.modules())
    config = plain(tiny_base).config
    with torch.device("meta"):
        offloaded = AutoModelForCausalLM.from_config(config)
    with pytest.raises(RestoreError, match="meta"):
        restore(offloaded, artifact)


def test_factors_have_the_same_bits_for_every_number_of_threads(tiny_base, artifact):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            model = plain(tiny_base)
            restored = restore(model, artifact)
            assert torch.get_num_threads() == threads
            found.append([model.get_submodule(name).Vh for name in restored.wrapped])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
