"""Nothing that a GPU works on is left on the CPU: quantization, factors, deltas, restored model."""

import pytest
import torch
from torch import nn
from transformers import Qwen2ForCausalLM

from tests.conftest import tiny_config
from tests.fake_gpu import CUDA, fake_gpu, on_gpu
from tinylora import DeltaOptions, QuantizedWeight, fast_factors, restore


def test_a_tensor_left_on_the_cpu_is_found():
    with fake_gpu(), pytest.raises(RuntimeError, match="cpu"):
        on_gpu(4, 4) + torch.empty(4, 4)


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_quantize_and_dequantize_stay_on_the_gpu(quant_type, double_quant):
    with fake_gpu():
        weight = QuantizedWeight.quantize(
            on_gpu(64, 128, dtype=torch.bfloat16), quant_type=quant_type, double_quant=double_quant
        )
        for tensor in weight.to_tensors("w").values():
            assert tensor.device.type == "cuda" or tensor.dtype == torch.uint8
        assert weight.dequantize().device.type == "cuda"
        assert weight.codes().device == weight.block_absmax.device == weight.data.device


@pytest.mark.parametrize("shape", [(24, 400), (512, 256)])
def test_fast_factors_come_back_from_the_gpu(shape):
    with fake_gpu():
        factors = fast_factors(on_gpu(*shape), 2)
    assert factors.U.shape == (shape[0], 2) and factors.Vh.shape == (2, shape[1])
    assert {t.device.type for t in (factors.U, factors.S, factors.Vh)} == {"cpu"}


@pytest.mark.parametrize("formula", ["full", "diagonal"])
@pytest.mark.parametrize("numerics", ["fp32", "trainer"])
def test_a_restored_model_runs_on_the_gpu(artifact, formula, numerics):
    with fake_gpu():
        with CUDA:
            model = Qwen2ForCausalLM._from_config(tiny_config(), dtype=torch.bfloat16)
        options = DeltaOptions(formula=formula, numerics=numerics, rng="cpu")
        restoration = restore(model, artifact, options)
        assert restoration.global_params.global_v.device.type == "cuda"
        ids = torch.zeros((2, 5), dtype=torch.long, device=CUDA)
        logits = model(ids).logits  # of the kind that is trained with: its backward needs a device
        assert logits.device.type == "cuda" and logits.requires_grad
        with torch.no_grad():
            assert model(ids).logits.device.type == "cuda"
        restoration.remove()
        assert isinstance(model.model.layers[0].mlp.up_proj, nn.Linear)
