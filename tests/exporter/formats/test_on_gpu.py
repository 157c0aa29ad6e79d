"""Nothing that a GPU folds, requantizes or measures is left on the CPU."""

from random import Random

import pytest
import torch
from torch._subclasses import fake_tensor

from exporter.formats.dense import DenseWeight
from exporter.formats.encoding import Fold
from exporter.quantize.calibrated import calibrated
from exporter.quantize.requantize import preserve, recompute
from tests.fake_gpu import fake_gpu, on_gpu
from tinylora import LowRankDelta, QuantizedWeight

# older torch has no type of its own for it
MISMATCH = getattr(fake_tensor, "FakeTensorDeviceMismatchError", RuntimeError)
DENSE = (torch.bfloat16, torch.float16, torch.float32)


def fold_of(weight):
    height, width = weight.shape
    delta = LowRankDelta(on_gpu(height, 2), on_gpu(2, width))
    return Fold("layer", "here", weight, delta)


@pytest.mark.parametrize("answer", [True, False], ids=["all", "none"])
@pytest.mark.parametrize("dtype", DENSE, ids=str)
@pytest.mark.parametrize("quantized", [True, False])
def test_dense_folds_stay_on_the_gpu(dtype, quantized, answer, monkeypatch):
    monkeypatch.setattr("exporter.formats.encoding.all_finite", lambda tensor: True)
    with fake_gpu(answer):
        weight = on_gpu(160, 64, dtype=torch.bfloat16)
        fold = fold_of(QuantizedWeight.quantize(weight) if quantized else weight)
        encoded = DenseWeight(dtype).encode(fold)
        assert DenseWeight(dtype).seen(fold).device.type == "cuda"
        assert [t.device.type for t in encoded.tensors.values()] == ["cuda"]


def calibrated_on_gpu(weight, delta):
    return calibrated(weight, delta, on_gpu(weight.shape[1], weight.shape[1]))


@pytest.mark.parametrize("method", [preserve, recompute, calibrated_on_gpu])
def test_requantizing_stays_on_the_gpu(method):
    """Which codes move is a question for values: each run takes another way."""
    ended = 0
    for seed in range(6):
        with fake_gpu(Random(seed)):
            fold = fold_of(QuantizedWeight.quantize(on_gpu(32, 8, dtype=torch.bfloat16)))
            try:
                seen = method(fold.weight, fold.delta).dequantize()
            except MISMATCH:
                raise
            except (RuntimeError, AssertionError, IndexError):
                continue  # answers that contradict each other, such as none of three places
            assert seen.device.type == "cuda"
            ended += 1
    assert ended >= 2
