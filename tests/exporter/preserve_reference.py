"""Nearest codes the plain way: every block sorted and searched, nothing bounded or left out."""

import torch
from torch import nn


def reference_codes(weight, delta):
    """Codes nearest to W + ΔW under the weight's scales, uint8 ``[n]``; ties stay."""
    size = weight.blocksize
    values = weight.block_absmax().unsqueeze(1) * weight.code
    values = values.to(weight.dtype).float()
    codes, change = (
        nn.functional.pad(flat, (0, -flat.numel() % size)).view(-1, size)
        for flat in (weight.codes(), delta.dense().reshape(-1))
    )
    ordered, order = values.sort(dim=1, stable=True)
    midpoints = (ordered[:, :-1] + ordered[:, 1:]) / 2
    held = values.gather(1, codes.long())
    wanted = held + change
    found = order.gather(1, torch.searchsorted(midpoints, wanted))
    nearer = (wanted - values.gather(1, found)).abs() < (wanted - held).abs()
    return torch.where(nearer, found.to(torch.uint8), codes).view(-1)[: weight.numel]
