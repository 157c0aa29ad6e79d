"""Choosing 4-bit codes for W + ΔW.

``preserve`` keeps every scale of the base. Element by element it takes the code whose value, as
the forward pass sees it (scaled, rounded to the checkpoint's dtype), is nearest to W + ΔW, and
leaves a code alone unless another is strictly nearer: no other choice of codes on these scales has
a smaller ‖E − Δ‖. ``recompute`` is what merging with PEFT does: dequantize, add, quantize with
bitsandbytes under new scales.
"""

import json
from dataclasses import replace

import torch
from torch import Tensor, nn

from tinylora import LowRankDelta, QuantizedWeight

# A change below this share of the smallest step cannot reach the midpoint between two values; the
# distance to 1/2 covers the roundings of the bound and of the sum.
_SAFE_SHARE = 0.49
_BLOCKS_AT_ONCE = 1 << 15


def preserve(base: QuantizedWeight, delta: LowRankDelta) -> QuantizedWeight:
    """Re-round the codes under the base's own scales.

    Args:
        base: The base's weight, ``[out, in]``.
        delta: The delta to add, ``[out, in]``.

    Returns:
        ``base`` itself where no code moves; otherwise the same statistics with other codes.
    """
    scales = base.block_absmax()
    bound = largest_entry_bound(delta)
    if bound < _SAFE_SHARE * _least_step(base, scales):
        return base
    pieces = torch.split(scales, _BLOCKS_AT_ONCE)
    steps = torch.cat([_smallest_steps(_values(piece, base)) for piece in pieces])
    if bound < _SAFE_SHARE * float(steps.min()):
        return base
    change = _blocks(delta.dense().reshape(-1), base.blocksize)
    largest = [part.abs().amax(dim=1) for part in torch.split(change, _BLOCKS_AT_ONCE)]
    reached = torch.cat(largest) >= _SAFE_SHARE * steps
    codes = _blocks(base.codes(), base.blocksize)
    moved = False
    for rows in torch.split(reached.nonzero().squeeze(1), _BLOCKS_AT_ONCE):
        old = codes[rows]
        new = _nearest(_values(scales[rows], base), old, change[rows])
        moved = moved or not torch.equal(old, new)
        codes[rows] = new
    return base.with_codes(codes.view(-1)[: base.numel]) if moved else base


def recompute(base: QuantizedWeight, delta: LowRankDelta) -> QuantizedWeight:
    """Quantize the sum with new scales, as bitsandbytes and PEFT do.

    Args:
        base: The base's weight, ``[out, in]``; its settings are kept.
        delta: The delta to add.
    """
    merged = base.dequantize().float()
    for rows, change in delta.pieces():
        merged[rows] += change
    fresh = QuantizedWeight.quantize(
        merged,
        quant_type=base.quant_type,
        blocksize=base.blocksize,
        double_quant=base.nested is not None,
    )
    return _with_dtype(fresh, base.dtype)


def block_values(weight: QuantizedWeight) -> Tensor:
    """The 16 values that each block can hold, as the forward pass sees them.

    Returns:
        fp32 ``[blocks, 16]``, column c for code c.
    """
    return _values(weight.block_absmax(), weight)


def _values(absmax: Tensor, weight: QuantizedWeight) -> Tensor:
    return (absmax.unsqueeze(1) * weight.code.unsqueeze(0)).to(weight.dtype).float()


def largest_entry_bound(delta: LowRankDelta) -> float:
    """Upper bound on |ΔW| from row and column maxima: Σₖ maxᵢ|leftᵢₖ| · maxⱼ|rightₖⱼ|.

    The trainer's rounding of the product to bf16 adds at most 2⁻⁸ of it, which the margin in
    :func:`preserve` covers.
    """
    rows, columns = delta.left.abs().amax(dim=0), delta.right.abs().amax(dim=1)
    return float((rows.double() * columns.double()).sum())


def _least_step(weight: QuantizedWeight, scales: Tensor) -> float:
    """Lower bound on the distance between two values of any block, without forming them.

    Two neighbours of the code book, scaled by the smallest absmax, each rounded by at most half of
    the dtype's eps; 0 or less where that says nothing.
    """
    gaps = weight.code.double().sort().values.diff()
    rounding = torch.finfo(weight.dtype).eps * float(weight.code.abs().max())
    return float(scales.abs().min()) * (float(gaps[gaps > 0].min()) - rounding)


def _smallest_steps(values: Tensor) -> Tensor:
    """Smallest distance between two different values of each block; infinite for a flat block."""
    gaps = values.sort(dim=1).values.diff(dim=1)
    return gaps.masked_fill(gaps <= 0, torch.inf).amin(dim=1)


def _nearest(values: Tensor, codes: Tensor, change: Tensor) -> Tensor:
    """Codes nearest to value + change; ``values`` [b, 16], ``codes`` and ``change`` [b, size]."""
    ordered, order = values.sort(dim=1, stable=True)
    midpoints = (ordered[:, :-1] + ordered[:, 1:]) / 2
    held = values.gather(1, codes.long())
    wanted = held + change
    found = order.gather(1, torch.searchsorted(midpoints, wanted))
    nearer = (wanted - values.gather(1, found)).abs() < (wanted - held).abs()
    return torch.where(nearer, found.to(torch.uint8), codes)


def _blocks(flat: Tensor, size: int) -> Tensor:
    """``[n]`` -> ``[blocks, size]``, a short last block padded with zeros."""
    return nn.functional.pad(flat, (0, -flat.numel() % size)).view(-1, size)


def _with_dtype(weight: QuantizedWeight, dtype: torch.dtype) -> QuantizedWeight:
    """The same weight, to be rounded to ``dtype`` by the forward pass."""
    state = json.loads(weight.state) | {"dtype": str(dtype).removeprefix("torch.")}
    return replace(weight, dtype=dtype, state=json.dumps(state).encode())
