"""A dialect is one object and one line: a throwaway one is read, inspected, restored and merged."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from exporter import ExportRequest, export, inspect_adapter, verify
from tests.tinylora.conftest import plain
from tinylora import AdapterSizes, LowRankDelta, load_adapter, restore
from tinylora.adapters import dialects
from tinylora.adapters.adapter import Dialect
from tinylora.adapters.inspection import Inspection
from tinylora.adapters.lora.deltas import LoraLinear

IDS = torch.arange(2, 26).view(2, 12)
MODULE = "model.layers.0.self_attn.q_proj"


@dataclass(frozen=True)
class Rank1:
    """ΔW of one module: every entry is ``value``."""

    path: Path
    value: float
    sha256: str
    model_id: str = ""
    sizes: AdapterSizes = AdapterSizes(1, 0, 0, capped=True)
    trained_on: str = "16bit"
    made_from_weights: bool = False

    def describe(self):
        return {"dialect": "rank1", "sha256": self.sha256, "model_id": "", "value": self.value}


@dataclass(frozen=True)
class Rank1Deltas:
    value: float
    names: tuple[str, ...]
    vectors: torch.Tensor = torch.zeros(1, 0)
    weight_tying: float = 0.0
    doubts: tuple[str, ...] = ()
    resolved: None = None
    factors: None = None

    def module(self, name, weight=None):
        return self

    def low_rank(self):
        return LowRankDelta(torch.full((128, 1), self.value), torch.ones(1, 128))

    def wrap(self, layer, params):
        return LoraLinear(layer, params, self.low_rank())


def load(path):
    return Rank1(path, json.loads(path.read_text()), sha256(path.read_bytes()).hexdigest())


RANK_1 = Dialect(
    kind=Rank1,
    reads=lambda path: path.suffix == ".rank1",
    files=lambda path: (path, path.with_suffix(".notes")),
    load=load,
    layers=lambda adapter, model, where: [(MODULE, model.get_submodule(MODULE))],
    deltas=lambda adapter, names, options, store: Rank1Deltas(adapter.value, tuple(names)),
    inspect=lambda a, trained_on: Inspection(a, a.describe(), "value", ("tiny",)),
)


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    monkeypatch.setattr(dialects, "DIALECTS", (RANK_1, *dialects.DIALECTS))
    path = tmp_path / "some.rank1"
    path.write_text("0.125")
    return path


def test_a_throwaway_dialect_is_restored(tiny_base, adapter):
    base, wanted = plain(tiny_base), plain(tiny_base)
    wanted.get_submodule(MODULE).weight.data += 0.125
    with torch.no_grad(), restore(base, load_adapter(adapter)):
        assert (base(IDS).logits - wanted(IDS).logits).abs().max() < 1e-4
    assert inspect_adapter(adapter).remarks == ("tiny",)
    assert dialects.files_of(adapter) == (adapter, adapter.with_suffix(".notes"))


def test_a_throwaway_dialect_is_merged(tiny_base, adapter, tmp_path):
    report = export(ExportRequest(tiny_base, adapter, tmp_path / "out", format="fp32"))
    before = plain(tiny_base).state_dict()
    stored = load_file(report.out / "model.safetensors")
    for name, tensor in stored.items():
        added = 0.125 if name == f"{MODULE}.weight" else 0
        assert torch.equal(tensor, before[name] + added), name
    assert report.verdict == "kept" and verify(report.out).ok
