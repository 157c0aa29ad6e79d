"""Weights as training leaves them, and deltas to fold into them."""

import torch
from torch import Tensor

from tinylora import LowRankDelta


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
