"""Weights and deltas to time with, made on any device by plain torch alone."""

import json

import torch
from torch import Tensor

from tinylora import LowRankDelta, QuantizedWeight
from tinylora.weights.code_books import code_book, dynamic_code_book
from tinylora.weights.quantized_weight import NestedAbsmax, pack_codes

BLOCK, SCALES_A_BLOCK = 64, 256
# Sides of the linear layers of one decoder layer of a 3B model: q, k, v, o, gate, up, down.
LAYER_3B = (
    ((2048, 2048), (256, 2048), (256, 2048), (2048, 2048))
    + ((11008, 2048), (11008, 2048), (2048, 11008))
)  # fmt: skip
LAYERS_3B = 36


def trained_like(shape: tuple[int, int], seed: int = 0, device: str = "cpu") -> Tensor:
    """Noise with a few leading directions, as trained weights have; bf16 ``[out, in]``."""
    generator = torch.Generator(device).manual_seed(seed)
    left, right = (torch.randn(side, 4, generator=generator, device=device) for side in shape)
    spikes = left * torch.tensor([3.0, 2.0, 1.2, 0.7], device=device) @ right.T
    noise = torch.randn(shape, generator=generator, device=device)
    return ((noise + spikes) * 0.02).to(torch.bfloat16)


def delta_of_size(shape: tuple[int, int], size: float, device: str = "cpu") -> LowRankDelta:
    """A delta of rank 2 whose entries are about ``size``, with float32 numerics."""
    generator = torch.Generator(device).manual_seed(1)
    left, right = (torch.randn(side, 2, generator=generator, device=device) for side in shape)
    return LowRankDelta(left * (size / 2**0.5), right.T.contiguous())


def quantized(weight: Tensor) -> QuantizedWeight:
    """Double-quantized nf4, where bitsandbytes may be absent; not always its last bit.

    Args:
        weight: bf16 ``[out, in]``, in a multiple of 64.
    """
    blocks = weight.float().view(-1, BLOCK)
    absmax = blocks.abs().amax(dim=1)
    codes = _nearest(blocks / absmax.unsqueeze(1), code_book("nf4").to(weight.device))
    offset = absmax.mean()
    groups = torch.nn.functional.pad(absmax - offset, (0, -absmax.numel() % SCALES_A_BLOCK))
    groups = groups.view(-1, SCALES_A_BLOCK)
    largest = groups.abs().amax(dim=1)
    scale_code = dynamic_code_book().to(weight.device)
    scale_codes = _nearest(groups / largest.unsqueeze(1), scale_code)
    state = {
        "quant_type": "nf4", "blocksize": BLOCK, "dtype": "bfloat16", "shape": list(weight.shape),
        "nested_blocksize": SCALES_A_BLOCK, "nested_dtype": "float32",
        "nested_offset": offset.item(),
    }  # fmt: skip
    return QuantizedWeight(
        data=pack_codes(codes.view(-1)),
        absmax=scale_codes.view(-1)[: absmax.numel()].contiguous(),
        code=code_book("nf4").to(weight.device),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=torch.bfloat16,
        shape=(weight.shape[0], weight.shape[1]),
        nested=NestedAbsmax(largest, scale_code, offset.item(), SCALES_A_BLOCK),
        state=json.dumps(state).encode(),
    )


def _nearest(unit: Tensor, code: Tensor) -> Tensor:
    return torch.bucketize(unit, (code[:-1] + code[1:]) / 2, out_int32=True).to(torch.uint8)
