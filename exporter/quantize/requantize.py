"""Choosing 4-bit codes for W + ΔW.

``preserve`` keeps every scale of the base, takes the code whose value, as the forward pass sees it,
is nearest to W + ΔW, and leaves a code alone unless another is strictly nearer: no other choice on
these scales has a smaller ‖E − Δ‖. A code moves only where |ΔW| reaches half the distance to
another value, so rows are first excluded by bounds on both. ``recompute`` is what merging with PEFT
does: dequantize, add, quantize with bitsandbytes under new scales.
"""

import json
import math
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from tinylora import LowRankDelta, QuantizedWeight
from tinylora.weights.blockwise import likely_codes
from tinylora.weights.code_books import code_book
from tinylora.weights.quantized_weight import pack_codes, unpack_codes

# Elements of a piece. On the CPU its temporaries stay near the cache; a device needs large pieces.
_PIECE = 1 << 18
_PIECE_ON_DEVICE = 1 << 24
_LEAST_ROWS = 64
# A change below this share of a distance cannot reach its midpoint. What is left to 1/2 covers the
# roundings of the bounds, of the sum, and of the trainer's product (2⁻⁸ of it in bf16).
_SAFE_SHARE = 0.49
_LEAST_CODE = 0.07  # below the least code of nf4 that is not 0


def preserve(base: QuantizedWeight, delta: LowRankDelta) -> QuantizedWeight:
    """Choose codes again under the base's own scales; ``base`` itself where none moves."""
    height, width = base.shape
    size = math.gcd(width, base.blocksize)  # of strips, each of which lies in one row and one block
    scales = base.block_absmax
    if size < base.blocksize:
        scales = scales.repeat_interleave(base.blocksize // size)[: base.numel // size]
    scales = scales.view(height, -1)
    most = delta.left.abs() @ delta.right.abs().amax(dim=1)
    # "not below" rather than "above": a bound that is no number excludes nothing
    least = _least_steps(base, scales.abs().amin(dim=1))
    rows = (~(most < least)).nonzero().squeeze(1)
    if not rows.numel():
        return base
    # in a row of odd length a byte belongs to two rows
    is_packed = width % 2 == 0
    data = (base.data if is_packed else base.codes()).view(height, -1)
    is_moved = False
    piece = _PIECE if data.device.type == "cpu" else _PIECE_ON_DEVICE
    for part in torch.split(rows, max(_LEAST_ROWS, piece // width)):
        held = data[part].view(-1)
        codes = (unpack_codes(held, 2 * len(held)) if is_packed else held).view(-1, size)
        change = delta.rows(part).view(-1, size)
        scale = scales[part].view(-1)
        # under a scale of 0 all values are equal
        steps = _least_steps(base, scale.abs()).masked_fill_(scale == 0, torch.inf)
        is_near = ~(change.abs().amax(dim=1) < steps)
        near = slice(None) if bool(is_near.all()) else is_near.nonzero().squeeze(1)
        old = codes[near]
        new = _nearest(base, scale[near], old, change[near])
        if not torch.equal(new, old):
            data = data if is_moved else data.clone()
            is_moved = True
            codes[near] = new
            data[part] = (pack_codes(codes.view(-1)) if is_packed else codes).view(len(part), -1)
    if not is_moved:
        return base
    return (
        replace(base, data=data.view_as(base.data)) if is_packed else base.with_codes(data.view(-1))
    )


def recompute(base: QuantizedWeight, delta: LowRankDelta) -> QuantizedWeight:
    """Quantize the sum with new scales and the base's settings, as bitsandbytes and PEFT do."""
    merged = base.dequantize().float()
    for rows, change in delta.pieces():
        merged[rows] += change
    fresh = QuantizedWeight.quantize(
        merged,
        quant_type=base.quant_type,
        blocksize=base.blocksize,
        double_quant=base.nested_absmax is not None,
    )
    state = json.loads(fresh.state) | {"dtype": str(base.dtype).removeprefix("torch.")}
    return replace(fresh, dtype=base.dtype, state=json.dumps(state).encode())


def block_values(weight: QuantizedWeight, scales: Tensor | None = None) -> Tensor:
    """The 16 values that the forward pass makes of the codes in each block, fp32 ``[n, 16]``."""
    scales = weight.block_absmax if scales is None else scales
    return (scales.unsqueeze(1) * weight.code).to(weight.dtype).float()


def _least_steps(base: QuantizedWeight, scales: Tensor) -> Tensor:
    """Change of an element, below which it keeps its code; for each scale of 0 or more."""
    gap, floor = _least_gap(tuple(base.code.tolist()), base.dtype)
    return scales.mul(gap).sub_(floor).mul_(_SAFE_SHARE)


@lru_cache(maxsize=32)
def _least_gap(code: tuple[float, ...], dtype: torch.dtype) -> tuple[float, float]:
    """Least distance of two values for a scale of 1, and what rounding takes from it besides."""
    about, rounding = torch.finfo(dtype), _rounding(dtype)
    one = torch.tensor(code, dtype=torch.float64)
    other = one.unsqueeze(1)
    distances = (one - other).abs() - rounding * (one.abs() + other.abs())
    least = distances.masked_fill(one == other, torch.inf).min()
    return float(least), about.smallest_normal * about.eps  # where values are subnormal numbers


def _rounding(dtype: torch.dtype) -> float:
    """Share of a value by which it, and what is computed with it in float32, may be rounded."""
    return torch.finfo(dtype).eps / 2 + 8 * torch.finfo(torch.float32).eps


def _nearest(base: QuantizedWeight, scales: Tensor, codes: Tensor, change: Tensor) -> Tensor:
    """The nearest codes, uint8 ``[n, size]``, of strips of one scale each that change by ΔW."""
    about = torch.finfo(base.dtype)
    # else values are subnormal numbers, infinite, or in the other order
    is_plain = (scales > about.tiny / _LEAST_CODE) & (scales < about.max / 2)
    if base.quant_type != "nf4" or not torch.equal(base.code, code_book("nf4").to(base.device)):
        is_plain.zero_()
    if bool(is_plain.all()):
        return _nearest_nf4(base, scales, codes, change)
    new, plain = codes.clone(), is_plain.nonzero().squeeze(1)
    new[plain] = _nearest_nf4(base, scales[plain], codes[plain], change[plain])
    other = (~is_plain).nonzero().squeeze(1)
    new[other] = _searched(base, scales[other], codes[other], change[other])
    return new


def _nearest_nf4(base: QuantizedWeight, scales: Tensor, codes: Tensor, change: Tensor) -> Tensor:
    """As :func:`_nearest`, by a table, and by the values themselves where it leaves two codes."""
    size = codes.shape[1]
    held = base.code.index_select(0, codes.view(-1).int()).view_as(change)
    held = held.mul_(scales.unsqueeze(1)).to(base.dtype).float()
    wanted = held + change
    new, unsure = likely_codes(wanted * (1 / scales).unsqueeze(1), _rounding(base.dtype))
    lower = new.view(-1)[unsure].int()
    scale = scales[unsure // size]
    low, high = ((base.code[code] * scale).to(base.dtype).float() for code in (lower, lower + 1))
    held, wanted = held.view(-1)[unsure], wanted.view(-1)[unsure]
    is_upper = wanted > (low + high) / 2
    is_nearer = (torch.where(is_upper, high, low) - wanted).abs() < (held - wanted).abs()
    # what no other is nearer than is one of the two
    new.view(-1)[unsure] = (lower + torch.where(is_nearer, is_upper, held == high)).to(torch.uint8)
    return new


def _searched(base: QuantizedWeight, scales: Tensor, codes: Tensor, change: Tensor) -> Tensor:
    """As :func:`_nearest`, for any code book and scales."""
    ordered, order = block_values(base, scales).sort(dim=1, stable=True)
    midpoints = (ordered[:, :-1] + ordered[:, 1:]) / 2
    held = base.code.index_select(0, codes.view(-1).int()).view_as(change)
    held = held.mul_(scales.unsqueeze(1)).to(base.dtype).float()
    wanted = held + change
    place = torch.searchsorted(midpoints, wanted)
    is_nearer = (ordered.gather(1, place) - wanted).abs() < (held - wanted).abs()
    return torch.where(is_nearer, order.gather(1, place).to(torch.uint8), codes)
