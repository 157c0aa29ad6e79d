"""Which weights, and which strips of a weight, a delta can change at all.

A code moves only where |ΔW| reaches half the distance from its value to another value. Both sides
are bounded without forming either: |ΔW| by the factors, |ΔWᵢⱼ| ≤ Σₖ |leftᵢₖ| · |rightₖⱼ|, and the
distance by a gap of the code book times the block's scale. First a whole weight is asked, by the
maxima of its factors and its least scale; then each of its strips.

A strip is the longest run of elements that lies within one row and one block: a block, wherever the
rows are whole blocks. So the bounds of all strips cost one product a strip instead of one an
element. Weights of one layout are asked together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylora import LowRankDelta, QuantizedWeight

# A change below this share of a distance cannot reach its midpoint. What is left to 1/2 covers the
# roundings of the bounds, of the sum, and of the trainer's product (2⁻⁸ of it in bf16).
SAFE_SHARE = 0.49


@dataclass(frozen=True, eq=False)
class Reach:
    """The strips of one weight that a delta may change.

    Attributes:
        mask: bool ``[out, in/size]``, True where a code may move.
        size: Elements of a strip, a power of two.
        scales: The blocks' absmax, fp32 ``[blocks]``.
    """

    mask: Tensor
    size: int
    scales: Tensor


@dataclass(frozen=True, eq=False)
class Gaps:
    """Distances in a code book, each less what rounding to a dtype may take, for a scale of 1.

    Attributes:
        least: The smallest one, fp32 ``[...]``.
        of_code: From each code's value to the nearest different value, fp32 ``[..., 16]``.
        floor: What rounding may take besides, where values are subnormal numbers of the dtype.
    """

    least: Tensor
    of_code: Tensor
    floor: float


def strip_size(weight: QuantizedWeight) -> int:
    """Elements of a strip: the largest number that divides both a row and a block."""
    return math.gcd(weight.shape[1], weight.blocksize)


def gaps_of(code: Tensor, dtype: torch.dtype) -> Gaps:
    """Distances between the values of code books.

    Args:
        code: Code books, fp32 ``[..., 16]``, in any order.
        dtype: What values are rounded to.
    """
    about = torch.finfo(dtype)
    # a value is rounded by at most half an eps of itself; midpoints and sums, in float32
    rounding = about.eps / 2 + 2 * torch.finfo(torch.float32).eps
    one, other = code.double().unsqueeze(-1), code.double().unsqueeze(-2)
    distances = (one - other).abs() - rounding * (one.abs() + other.abs())
    of_code = distances.masked_fill(one == other, torch.inf).amin(dim=-1)
    floor = about.smallest_normal * about.eps
    return Gaps(of_code.amin(dim=-1).float(), of_code.float(), floor)


def largest_entry_bounds(lefts: Tensor, rights: Tensor) -> Tensor:
    """Upper bounds on |ΔW| from row and column maxima: Σₖ maxᵢ|leftᵢₖ| · maxⱼ|rightₖⱼ|.

    Args:
        lefts: |left| of each weight, ``[m, out, r]``.
        rights: |right| of each weight, ``[m, r, in]``.

    Returns:
        float64 ``[m]``.
    """
    return (lefts.amax(dim=1).double() * rights.amax(dim=2).double()).sum(dim=1)


def least_scales(weights: Sequence[QuantizedWeight]) -> Tensor:
    """Lower bounds on |absmax| of any block of each weight; 0 or less where that says nothing.

    The least byte of each group of nested scales gives the least scale, as a scale grows with its
    byte; so no scale but that one is computed.

    Args:
        weights: Of one layout.

    Returns:
        fp32 ``[m]``.
    """
    stored = torch.stack([weight.absmax for weight in weights])
    if weights[0].nested is None:
        return stored.abs().amin(dim=1)
    size = weights[0].nested.blocksize
    padded = torch.nn.functional.pad(stored, (0, -stored.shape[1] % size), value=255)
    least = padded.view(len(weights), -1, size).amin(dim=2)
    code, group_scales, offsets = _nested(weights)
    found = (code.gather(1, least.long()) * group_scales + offsets).amin(dim=1)
    grows = (code.diff(dim=1) >= 0).all(dim=1) & (group_scales >= 0).all(dim=1)
    return found.where(grows, torch.zeros_like(found))


def block_scales(weights: Sequence[QuantizedWeight]) -> Tensor:
    """Absmax of each block, fp32 ``[m, blocks]``, bit for bit :meth:`QuantizedWeight.block_absmax`.

    Args:
        weights: Of one layout.
    """
    stored = torch.stack([weight.absmax for weight in weights])
    if weights[0].nested is None:
        return stored
    code, group_scales, offsets = _nested(weights)
    first = 256 * torch.arange(len(weights), dtype=torch.int32, device=stored.device)
    found = code.view(-1).index_select(0, (stored.int() + first.unsqueeze(1)).view(-1))
    spread = group_scales.repeat_interleave(weights[0].nested.blocksize, dim=1)
    return found.view(stored.shape).mul_(spread[:, : stored.shape[1]]).add_(offsets)


def _nested(weights: Sequence[QuantizedWeight]) -> tuple[Tensor, Tensor, Tensor]:
    """Code books ``[m, 256]``, scales ``[m, groups]`` and offsets ``[m, 1]`` of nested scales."""
    found = [weight.nested for weight in weights if weight.nested is not None]
    code = torch.stack([nested.code for nested in found])
    offsets = torch.tensor([[nested.offset] for nested in found], device=code.device)
    return code, torch.stack([nested.absmax for nested in found]), offsets


def reaches(
    weights: Sequence[QuantizedWeight], deltas: Sequence[LowRankDelta]
) -> list[Reach | None]:
    """Ask weights of one layout together; the device is waited for twice, once if none is reached.

    Args:
        weights: Of one shape, block size, dtype and kind of scales, on one device.
        deltas: One for each, of one rank.

    Returns:
        What may change in each weight; None where nothing can.
    """
    lefts = torch.stack([delta.left for delta in deltas]).abs_()
    rights = torch.stack([delta.right for delta in deltas]).abs_()
    gaps = gaps_of(torch.stack([weight.code for weight in weights]), weights[0].dtype)
    least = least_scales(weights) * gaps.least - gaps.floor
    # "not below" rather than "above": a bound that is no number excludes nothing
    near = ~(largest_entry_bounds(lefts, rights) < SAFE_SHARE * least)
    found: list[Reach | None] = [None] * len(weights)
    if not (members := [i for i, is_near in enumerate(near.tolist()) if is_near]):
        return found
    if len(members) < len(weights):
        lefts, rights = lefts[near], rights[near]
    scales = block_scales([weights[i] for i in members])
    steps = scales.abs() * gaps.least[near].unsqueeze(1) - gaps.floor
    steps.masked_fill_(scales == 0, torch.inf)
    size = strip_size(weights[0])
    masks = _reached_strips(lefts, rights, steps, size, weights[0].blocksize)
    is_reached = masks.flatten(1).any(dim=1).tolist()
    for i, mask, scale, is_any in zip(members, masks, scales, is_reached, strict=True):
        found[i] = Reach(mask, size, scale) if is_any else None
    return found


def _reached_strips(
    lefts: Tensor, rights: Tensor, steps: Tensor, size: int, blocksize: int
) -> Tensor:
    """Bool ``[m, out, in/size]``: whether the bound on |ΔW| reaches the strip's smallest step."""
    bounds = lefts @ rights.view(*rights.shape[:2], -1, size).amax(dim=3)
    if size < blocksize:
        steps = steps.repeat_interleave(blocksize // size, dim=1)
    limits = steps[:, : bounds[0].numel()].view_as(bounds)
    return (bounds < SAFE_SHARE * limits).logical_not_()
