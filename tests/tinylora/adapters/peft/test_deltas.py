"""PEFT's dialect, against adapters that PEFT itself made and its own get_delta_weight."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from tests.lora_adapters import pefts_deltas
from tests.tinylora.conftest import four_bit, plain
from tinylora import (
    DeltaOptions,
    PeftTinyLoRALinear,
    adapted_layers,
    deltas_of,
    load_adapter,
    restore,
)
from tinylora.errors import (
    OptionsError,
    RestoreError,
    TargetMismatchError,
)

IDS = torch.arange(2, 26).view(2, 12)


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        *(
            ({"r": r, "u": u, "weight_tying": tying, "save_projection": stored}, "float32")
            for r, u, tying in ((1, 1, 0.0), (1, 5, 0.5), (4, 1, 1.0), (4, 16, 0.5), (2, 16, 0.0))
            for stored in (True, False)
        ),
        ({"save_projection": False}, "bfloat16"),  # P is rounded as the training layer was
        ({"save_projection": False}, "float16"),
        ({"r": 100, "u": 2, "save_projection": False}, "float32"),  # k_proj is 64 x 128
        # 14 modules in 13, 10, 4 (halves round to even) and 1 groups, the last ones the largest
        *(
            ({"weight_tying": tying, "target_modules": "all-linear"}, "float32")
            for tying in (0.1, 0.3, 0.75, 0.9)
        ),
    ],
)
def test_deltas_equal_pefts(saved, tiny_base, changes, dtype):
    directory, model = saved(dtype, **changes)
    adapter, base = load_adapter(directory), plain(tiny_base)
    assert len(adapter.vectors) == len(model.base_model.tinylora_v["default"])
    names = [name for name, _ in adapted_layers(adapter, base, "the base")]
    deltas, theirs = deltas_of(adapter, names), pefts_deltas(model)
    assert names == list(theirs)  # PEFT's own order decides groups and seeds
    for name, wanted in theirs.items():
        found = deltas.module(name, None).low_rank()  # no weight is needed
        assert found.left.dtype == found.right.dtype == torch.float32
        assert wanted.norm() > 0
        assert (found.dense().double() - wanted).norm() <= 1e-6 * wanted.norm(), name


@pytest.mark.parametrize("weight_tying", [0.5, 1.0])
def test_restored_logits_equal_pefts(saved, tiny_base, weight_tying):
    directory, model = saved(weight_tying=weight_tying, save_projection=False)
    # float32 logits would be rounded by as much as is looked for
    base, model = plain(tiny_base, "float64"), model.double()
    before = dict(base.named_modules())
    with torch.no_grad():
        plain_logits, wanted = base(IDS).logits, model(IDS).logits
        with restore(base, load_adapter(directory)) as restoration:
            assert isinstance(base.get_submodule(restoration.wrapped[0]), PeftTinyLoRALinear)
            found = base(IDS).logits
        assert torch.equal(base(IDS).logits, plain_logits)
    assert all(module is before[name] for name, module in base.named_modules())
    change = (wanted - plain_logits).norm()
    assert change > 1e-2
    assert (found - wanted).norm() < 2e-5 * change  # factors are float32


def test_restoring_on_a_4bit_base_which_peft_cannot(saved, tiny_base):
    directory, model = saved()
    base = four_bit(tiny_base)
    restore(base, load_adapter(directory))
    for name, wanted in pefts_deltas(model).items():
        assert (base.get_submodule(name).delta() - wanted).norm() <= 1e-6 * wanted.norm()


def test_a_restored_model_can_be_cast(saved, tiny_base):
    base = plain(tiny_base)
    restore(base, load_adapter(saved()[0]))
    logits = base(IDS).logits
    assert (base.double()(IDS).logits - logits).norm() <= 1e-5 * logits.norm()


def test_gradients_reach_each_modules_own_vector(saved, tiny_base):
    directory, model = saved(weight_tying=0.5)
    base = plain(tiny_base).requires_grad_(False)
    vector = restore(base, load_adapter(directory)).global_params.global_v
    base(IDS, labels=IDS).loss.backward()
    model(IDS, labels=IDS).loss.backward()
    theirs = model.base_model.tinylora_v["default"]
    wanted = torch.stack([theirs[str(group)].grad for group in range(3)])
    assert (vector.grad - wanted).norm() <= 1e-4 * wanted.norm()


def test_options_of_the_other_dialect_are_refused(saved, tiny_base):
    adapter = load_adapter(saved()[0])
    for options in ({"formula": "full"}, {"rng": "cpu"}, {"svd": "fast"}, {"numerics": "trainer"}):
        with pytest.raises(OptionsError, match=next(iter(options))):
            restore(plain(tiny_base), adapter, DeltaOptions(**options))


def test_other_bases_are_refused(saved, tiny_base):
    adapter = load_adapter(saved()[0])
    base = plain(tiny_base)
    base.model.layers[1].mlp.down_proj = nn.Linear(100, 128)
    with pytest.raises(TargetMismatchError, match=r"layers\.1\.mlp\.down_proj is 128 x 100"):
        restore(base, adapter)
    base.model.layers = base.model.layers[:1]
    with pytest.raises(TargetMismatchError, match=r"no module model\.layers\.1"):
        restore(base, adapter)
    with pytest.raises(RestoreError, match="q_proj: its weight is on the meta device"):
        restore(plain(tiny_base).to("meta"), adapter)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # from peft
def test_embeddings_and_a_tied_head_are_refused(saved, tiny_base):
    directory, _ = saved(target_modules=["embed_tokens"])
    with pytest.raises(TargetMismatchError, match="embed_tokens is a Embedding"):
        restore(plain(tiny_base), load_adapter(directory))
    directory, _ = saved(target_modules=["lm_head"])
    config = plain(tiny_base).config
    for device in ("cpu", "meta"):
        with torch.device(device):
            base = AutoModelForCausalLM.from_config(config)
        with pytest.raises(TargetMismatchError, match="lm_head is tied"):
            adapted_layers(load_adapter(directory), base, "the base")
