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
from functools import cache

import torch
from torch import Tensor

from tinylora import LowRankDelta, QuantizedWeight
from tinylora.weights.code_books import QuantType, code_book, dynamic_code_book

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


def least_steps(weights: Sequence[QuantizedWeight]) -> Tensor:
    """Lower bounds on the distance between two values anywhere in a weight.

    The least byte of each group of nested scales gives the least scale, as a scale grows with its
    byte; so no scale but that one is computed.

    Args:
        weights: Of one layout.

    Returns:
        fp32 ``[m]``; −∞ for code books that bitsandbytes does not write, which are not bounded.
    """
    first = weights[0]
    books = [code_book(first.quant_type)] + ([] if first.nested is None else [dynamic_code_book()])
    # neither this copy nor the one of the offsets waits for the device
    known = torch.cat(books).to(first.code.device, non_blocking=True)
    found = torch.cat([part for weight in weights for part in _statistics(weight)])
    found = found.view(len(weights), -1)
    is_known = (found[:, : len(known)] == known).all(dim=1)
    least = torch.stack([weight.absmax for weight in weights])
    if first.nested is None:
        least = least.abs().amin(dim=1)
    else:
        scales, size = found[:, len(known) :], first.nested.blocksize
        if least.shape[1] % size:
            least = torch.nn.functional.pad(least, (0, -least.shape[1] % size), value=255)
        bytes_ = least.view(*scales.shape, size).amin(dim=2)
        units = known[len(books[0]) :].index_select(0, bytes_.view(-1).int()).view_as(scales)
        least = (units * scales + _offsets(weights)).amin(dim=1)
        is_known &= (scales >= 0).all(dim=1)
    gap, floor = _known_gap(first.quant_type, first.dtype)
    return (least * gap - floor).masked_fill_(~is_known, -torch.inf)


@cache
def _known_gap(quant_type: QuantType, dtype: torch.dtype) -> tuple[float, float]:
    gaps = gaps_of(code_book(quant_type), dtype)
    return float(gaps.least), gaps.floor


def _statistics(weight: QuantizedWeight) -> list[Tensor]:
    """Code books and scales of scales, as they are compared and used together."""
    nested = weight.nested
    return [weight.code] if nested is None else [weight.code, nested.code, nested.absmax]


def block_scales(weights: Sequence[QuantizedWeight]) -> Tensor:
    """Absmax of each block, fp32 ``[m, blocks]``, bit for bit :meth:`QuantizedWeight.block_absmax`.

    Args:
        weights: Of one layout.
    """
    stored = torch.stack([weight.absmax for weight in weights])
    if weights[0].nested is None:
        return stored
    nested = [weight.nested for weight in weights if weight.nested is not None]
    code = torch.cat([each.code for each in nested])
    spread = torch.stack([each.absmax for each in nested])
    spread = spread.repeat_interleave(nested[0].blocksize, dim=1)[:, : stored.shape[1]]
    first = 256 * torch.arange(len(nested), dtype=torch.int32, device=stored.device)
    found = code.index_select(0, (stored.int() + first.unsqueeze(1)).view(-1))
    return found.view(stored.shape).mul_(spread).add_(_offsets(weights))


def _offsets(weights: Sequence[QuantizedWeight]) -> Tensor:
    """Offsets of nested scales, fp32 ``[m, 1]``."""
    found = [[weight.nested.offset] for weight in weights if weight.nested is not None]
    return torch.tensor(found, dtype=torch.float32).to(weights[0].code.device, non_blocking=True)


def reaches(
    weights: Sequence[QuantizedWeight], deltas: Sequence[LowRankDelta]
) -> list[Reach | None]:
    """Ask weights of one layout together; where none is reached, the device is waited for once.

    Args:
        weights: Of one shape, block size, dtype, code book and kind of scales, on one device.
        deltas: One for each, of one rank.

    Returns:
        What may change in each weight; None where nothing can.
    """
    lefts = torch.stack([delta.left for delta in deltas])
    rights = torch.stack([delta.right for delta in deltas])
    rows, columns = lefts.abs().amax(dim=1), rights.abs().amax(dim=2)
    # "not below" rather than "above": a bound that is no number excludes nothing
    near = ~((rows * columns).sum(dim=1) < SAFE_SHARE * least_steps(weights))
    found: list[Reach | None] = [None] * len(weights)
    if not (members := [i for i, is_near in enumerate(near.tolist()) if is_near]):
        return found
    if len(members) < len(weights):
        lefts, rights = lefts[near], rights[near]
    reached = [weights[i] for i in members]
    scales = block_scales(reached)
    gaps = gaps_of(torch.stack([weight.code for weight in reached]), weights[0].dtype)
    steps = scales.abs() * gaps.least.unsqueeze(1) - gaps.floor
    steps.masked_fill_(scales == 0, torch.inf)
    size = strip_size(weights[0])
    masks = _reached_strips(lefts.abs_(), rights.abs_(), steps, size, weights[0].blocksize)
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
