"""LoRA adapters, against those that PEFT makes and its own deltas."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.lora_adapters import PATTERNS, pefts_deltas, save_lora
from tests.tinylora.conftest import changed_adapter, plain
from tinylora import adapted_layers, deltas_of, load_adapter, restore
from tinylora.adapters.dialects import files_of, inspect_adapter
from tinylora.errors import ArtifactError, OptionsError

IDS = torch.arange(2, 26).view(2, 12)
REGEX = r"model\.layers\.1\.self_attn\.(q|v)_proj"


@pytest.mark.parametrize(
    ("changes", "modules"),
    [
        ({}, 6),
        (PATTERNS, 6),
        ({"use_rslora": True, **PATTERNS}, 6),
        ({"target_modules": "all-linear", "r": 1}, 14),
        ({"target_modules": REGEX, "fan_in_fan_out": False}, 2),
        ({"layers_to_transform": [0], "init_lora_weights": "gaussian"}, 3),
    ],
)
def test_deltas_and_logits_equal_pefts(tiny_base, tmp_path, changes, modules):
    directory, model = save_lora(tmp_path / "lora", tiny_base, **changes)
    adapter, base = load_adapter(directory), plain(tiny_base)
    names = [name for name, _ in adapted_layers(adapter, base, "the base")]
    deltas, wanted = deltas_of(adapter, names), pefts_deltas(model)
    assert names == list(wanted) and len(names) == modules
    for name, delta in wanted.items():
        found = deltas.module(name, None).low_rank()
        assert (found.dense().double() - delta).norm() <= 1e-6 * delta.norm(), name
    assert adapter.sizes.rank == max(
        deltas.module(n, None).low_rank().right.shape[0] for n in names
    )
    with torch.no_grad():
        before, expected = base(IDS).logits, model(IDS).logits
        with restore(base, adapter):
            change = (expected - before).norm()
            assert (base(IDS).logits - expected).norm() < 1e-5 * change
        assert torch.equal(base(IDS).logits, before)


def test_a_restored_lora_can_be_trained_and_cast(tiny_base, tmp_path):
    directory, model = save_lora(tmp_path / "lora", tiny_base)
    base = plain(tiny_base).requires_grad_(False)
    restored = restore(base, load_adapter(directory))
    base(IDS, labels=IDS).loss.backward()
    model(IDS, labels=IDS).loss.backward()
    theirs = model.base_model.model
    for name in restored.wrapped:
        wanted = theirs.get_submodule(name).lora_A["default"].weight.grad
        assert (base.get_submodule(name).A.grad - wanted).norm() <= 1e-4 * wanted.norm()
    base.zero_grad()
    for parameter in base.parameters():
        parameter.data = parameter.data.bfloat16()
    with torch.no_grad():
        wanted = model(IDS).logits
        assert (base(IDS).logits.float() - wanted).norm() < 0.05 * wanted.norm()


def test_inspection_shows_ranks_scales_and_remarks(tiny_base, tmp_path):
    directory, _ = save_lora(tmp_path / "lora", tiny_base, **PATTERNS)
    found = inspect_adapter(load_adapter(directory))
    assert found.facts["ranks"] == {"2": 2, "4": 3, "7": 1}
    assert found.facts["scales"] == {"0.75": 2, "0.857142857": 1, "1.5": 2, "8": 1}
    assert found.facts["modules"] == 6 and found.facts["delta_norms"]["zeros"] == 0
    assert "2 down_proj, 2 k_proj, 2 q_proj" in found.remarks[0]
    assert "--trained-on 4bit" in found.remarks[-1]
    assert {file.name for file in files_of(directory)} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@pytest.mark.parametrize(("size", "is_usable"), [(1e30, True), (3e38, False)])
def test_huge_numbers_are_shown_or_refused(tiny_base, tmp_path, size, is_usable):
    directory, _ = save_lora(tmp_path / "lora", tiny_base)
    tensors = load_file(directory / "adapter_model.safetensors")
    huge = {name: torch.full_like(tensor, size) for name, tensor in tensors.items()}
    adapter = changed_adapter(directory, tensors=huge)
    if is_usable:
        json.dumps(inspect_adapter(adapter).as_dict(), allow_nan=False)
    else:
        with pytest.raises(ArtifactError, match="lora_B is too large"):
            inspect_adapter(adapter)


def test_a_lora_has_no_parts_of_a_tinylora(tiny_base, tmp_path):
    adapter = load_adapter(save_lora(tmp_path / "lora", tiny_base)[0])
    name = next(iter(adapter.shapes))
    with pytest.raises(OptionsError, match="cannot be written as a TinyLoRA"):
        deltas_of(adapter, [name]).module(name, None).parts()
