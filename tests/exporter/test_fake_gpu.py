"""Nothing that a GPU folds, requantizes or measures is left on the CPU."""

from dataclasses import replace
from random import Random

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError

from exporter.base.architecture import read_architecture
from exporter.base.checkpoint import open_checkpoint
from exporter.choose.choice import target_units
from exporter.fold.fold import linear_tensors, stored_change
from exporter.formats.formats import format_named
from exporter.plan.plan import build_plan
from exporter.quantize.stored import stored_weight
from tests.fake_gpu import fake_gpu, on_gpu
from tinylora import LowRankDelta, QuantizedWeight, load_adapter

SHAPE = (160, 64)


class Rebuilt:
    """The delta of a module, as it comes from its factors: on the CPU."""

    factors = None

    def low_rank(self):
        return LowRankDelta(torch.ones(SHAPE[0], 2), torch.ones(2, SHAPE[1]))


def weight():
    return QuantizedWeight.quantize(on_gpu(*SHAPE, dtype=torch.bfloat16))


@pytest.fixture(scope="module")
def unit_of(base, artifact):
    """``unit_of(format)``: the plan of a linear layer, and its base."""
    opened, adapter = open_checkpoint(base), load_adapter(artifact)
    architecture = read_architecture(base, opened.config)

    def find(format):
        plan = build_plan(opened, architecture, format_named(format), sizes=adapter.sizes)
        units = target_units(plan)
        return next(unit for unit in units if unit.shape == SHAPE), opened

    return find


@pytest.mark.parametrize("answer", [True, False], ids=["all", "none"])
@pytest.mark.parametrize("format", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("quantized", [True, False])
def test_dense_folds_stay_on_the_gpu(unit_of, format, quantized, answer, monkeypatch):
    unit, base = unit_of(format)
    monkeypatch.setattr("exporter.fold.fold.all_finite", lambda tensor: True)
    with fake_gpu(answer):
        ground = weight() if quantized else on_gpu(*SHAPE, dtype=torch.bfloat16)
        tensors, record = linear_tensors(unit, ground, base, Rebuilt(), "preserve")
        (stored,) = tensors.values()
        assert stored.device.type == record.ground.device.type == "cuda"
        for change, wanted in stored_change(stored, record.ground, record.delta):
            assert (change - wanted).device.type == "cuda"


@pytest.mark.parametrize("stored", ["base", "exact", "bf16", "preserve", "recompute", "calibrated"])
def test_requantizing_stays_on_the_gpu(stored):
    """Which codes move is a question for values: each run takes another way."""
    ended, (height, width) = 0, (32, 8)
    for seed in range(6):
        with fake_gpu(Random(seed)):
            base = QuantizedWeight.quantize(on_gpu(height, width, dtype=torch.bfloat16))
            delta = LowRankDelta(on_gpu(height, 2), on_gpu(2, width))
            try:
                made = stored_weight(base, delta, stored, on_gpu(width, width))
            except FakeTensorDeviceMismatchError:
                raise
            except (RuntimeError, AssertionError, IndexError):
                continue  # answers that contradict each other, such as none of three places
            assert made.device.type == "cuda"
            ended += 1
    assert ended >= 2


def test_a_delta_of_the_cpu_is_found(unit_of, monkeypatch):
    """Were it not brought to the weight's device, the fold would fail on a GPU."""
    unit, base = unit_of("fp32")
    monkeypatch.setattr(LowRankDelta, "to", lambda self, device: replace(self))
    with fake_gpu(), pytest.raises(RuntimeError, match="cpu"):
        linear_tensors(unit, weight(), base, Rebuilt(), "preserve")
