"""bitsandbytes' CUDA kernels against what this package makes and reads on the CPU."""

import pytest
import torch

from benchmarks.random_base import trained_like
from tinylora import QuantizedWeight
from tinylora.weights.code_books import dynamic_code_book

bitsandbytes = pytest.importorskip("bitsandbytes")  # a borrowed device may lack it
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
CUDA = torch.device("cuda")
# The CPU kernel counts a scale between -1 and 1 in so many steps before it takes the nearest code.
CPU_STEPS = 65535


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("blocksize", [64, 256])
def test_codes_and_scales_are_the_same(dtype, quant_type, blocksize):
    weight = trained_like((512, 768)).to(dtype)
    settings = {"quant_type": quant_type, "blocksize": blocksize}
    ours = QuantizedWeight.quantize(weight, double_quant=False, **settings)
    data, state = bitsandbytes.functional.quantize_4bit(weight.cuda(), **settings)
    assert torch.equal(state.absmax.cpu(), ours.absmax)
    assert torch.equal(data.cpu().view(-1), ours.data.view(-1))


def test_scales_differ_only_next_to_a_rounding_edge(record_property):
    """The device compares scales with the edges; the CPU, their nearest steps."""
    weight = trained_like((2048, 2048))
    ours = QuantizedWeight.quantize(weight)
    theirs = QuantizedWeight.quantize(weight.cuda())
    assert torch.equal(ours.codes(), theirs.codes().cpu())
    codes, device_codes = ours.absmax.long(), theirs.absmax.cpu().long()
    differs = codes != device_codes
    record_property("scales that differ", int(differs.sum()))
    assert differs.float().mean() < 0.01
    # the means are summed in another order
    assert theirs.nested_offset == pytest.approx(ours.nested_offset, rel=1e-6)
    assert torch.allclose(theirs.nested_absmax.cpu(), ours.nested_absmax, rtol=1e-5)
    scales = QuantizedWeight.quantize(weight, double_quant=False).absmax - ours.nested_offset
    unit = scales / ours.nested_absmax.repeat_interleave(256)[: scales.numel()]
    book = dynamic_code_book()
    low, high = torch.minimum(codes, device_codes), torch.maximum(codes, device_codes)
    assert int((high - low).max()) <= 1
    edge = (book[low] + book[high]) / 2
    assert bool(((unit - edge).abs()[differs] <= 2 / CPU_STEPS).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [True, False])
def test_dequantized_values_are_the_forward_pass_values(dtype, quant_type, nested):
    weight = trained_like((512, 768)).to(dtype)
    data, state = bitsandbytes.functional.quantize_4bit(
        weight.cuda(), quant_type=quant_type, compress_statistics=nested
    )
    packed = {f"w.{key}": value for key, value in state.as_dict(packed=True).items()}
    ours = QuantizedWeight.from_tensors("w", {"w": data, **packed})
    theirs = bitsandbytes.functional.dequantize_4bit(data, state)
    assert torch.equal(ours.dequantize(), theirs)
    tensors = {name: tensor.cpu() for name, tensor in {"w": data, **packed}.items()}
    on_host = QuantizedWeight.from_tensors("w", tensors)
    assert torch.equal(on_host.dequantize(), theirs.cpu())
    assert torch.equal(on_host.to(CUDA).dequantize(), theirs)
