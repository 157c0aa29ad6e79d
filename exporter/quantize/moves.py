"""Moves codes to the value nearest to W + ΔW, in the strips that a delta can reach.

A piece of rows at a time: ΔW of these rows is formed, the reached strips are taken from it, and a
look-up by code drops those in which no element comes near a midpoint. In what is left every element
is decided: it is compared with the midpoints between its block's 16 values as the forward pass sees
them, and its code moves if the value found is strictly nearer. Whole strips are written back into
the packed bytes; the weight is never unpacked.

Which midpoints to compare with is told by a table. W + ΔW, divided by the block's scale, falls into
a bin; the code book's midpoints, moved by at most what rounding may do to them, leave one in doubt
in each bin, and that one is computed and compared. Blocks for which that does not hold (a scale of
0 or below, or so small that rounding merges values) are sorted and searched instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from exporter.quantize.reach import SAFE_SHARE, Gaps, Reach, gaps_of
from tinylora import LowRankDelta, QuantizedWeight
from tinylora.weights.blockwise import pairs_of_bytes
from tinylora.weights.quantized_weight import pack_codes, unpack_codes

# Elements of a piece. On the CPU its temporaries stay near the cache; a device needs large pieces.
PIECE = 1 << 18
PIECE_ON_DEVICE = 1 << 24
LEAST_ROWS = 64
_BINS = 1024  # of a scale
# Relative to the scale, what the floor of rounding and the division may move a midpoint.
_DOUBT = 4e-4
_LEAST_SCALE = 1e-30


@dataclass(frozen=True, eq=False)
class _Strips:
    """Some strips of a weight.

    Attributes:
        number: Which, int64 ``[c]``.
        change: ΔW, fp32 ``[c, size]``.
        stored: Their bytes, uint8 ``[c, size/2]``; ``[c, 1]``, one code, for a size of 1.
        scales: Absmax, fp32 ``[c]``.
    """

    number: Tensor
    change: Tensor
    stored: Tensor
    scales: Tensor

    def take(self, which: Tensor) -> "_Strips":
        """Some of them."""
        if which.numel() == self.number.numel():
            return self
        parts = (self.number, self.change, self.stored, self.scales)
        return _Strips(*(part.index_select(0, which) for part in parts))


@dataclass(frozen=True, eq=False)
class _Book:
    """What a code book and a dtype say about every block.

    Attributes:
        code: The code book, fp32 ``[16]``.
        dtype: What values are rounded to.
        gaps: Distances in the code book.
        order: Codes by value, equal ones by number, int64 ``[16]``.
        is_ascending: Whether codes are in the order of their values, as those of nf4 are.
        low: Midpoints that are below each bin for certain, int32 ``[bins]``; None where more than
            one is in doubt in some bin.
    """

    code: Tensor
    dtype: torch.dtype
    gaps: Gaps
    order: Tensor
    is_ascending: bool
    low: Tensor | None


def fold_reached(base: QuantizedWeight, delta: LowRankDelta, reach: Reach) -> QuantizedWeight:
    """The weight with its nearest codes for W + ΔW.

    Args:
        base: The weight.
        delta: The delta to add.
        reach: Where codes may move.

    Returns:
        ``base`` itself where none does.
    """
    book = _book_of(tuple(base.code.tolist()), base.dtype, base.code.device)
    packed = reach.size > 1  # in a row of odd length a byte belongs to two rows
    data = base.data.reshape(-1) if packed else base.codes()
    data = data.view(-1, max(1, reach.size // 2))
    is_moved = False
    for strips in _pieces(base, delta, reach, data):
        for part, codes in _decided(strips, book):
            new = pack_codes(codes.view(-1)).view_as(part.stored) if packed else codes
            if torch.equal(new, part.stored):
                continue
            if packed and not is_moved:
                data = data.clone()
            is_moved = True
            data.index_copy_(0, part.number, new)
    if not is_moved:
        return base
    if packed:
        return replace(base, data=data.view(base.data.shape))
    return base.with_codes(data.view(-1))


def scaled_values(absmax: Tensor, code: Tensor, dtype: torch.dtype) -> Tensor:
    """What blocks can hold, as the forward pass sees it: fp32 ``[blocks, 16]``, by code."""
    return (absmax.unsqueeze(1) * code.unsqueeze(0)).to(dtype).float()


def _pieces(
    base: QuantizedWeight, delta: LowRankDelta, reach: Reach, data: Tensor
) -> Iterator[_Strips]:
    """The reached strips, those of some rows at a time; ``data`` as bytes of strips."""
    columns, (_, in_a_row) = base.shape[1], reach.mask.shape
    piece = PIECE if data.device.type == "cpu" else PIECE_ON_DEVICE
    reached_rows = reach.mask.any(dim=1).nonzero().squeeze(1)
    for rows in torch.split(reached_rows, max(LEAST_ROWS, piece // columns)):
        row, column = reach.mask.index_select(0, rows).nonzero().unbind(1)
        change = delta.rows(rows).view(-1, reach.size)
        if row.numel() < change.shape[0]:
            change = change.index_select(0, row * in_a_row + column)
        number = rows.index_select(0, row) * in_a_row + column
        block = number if reach.size == base.blocksize else number * reach.size // base.blocksize
        scales = reach.scales.index_select(0, block)
        yield _Strips(number, change, data.index_select(0, number), scales)


def _decided(strips: _Strips, book: _Book) -> Iterator[tuple[_Strips, Tensor]]:
    """Strips in which an element comes near a midpoint, and the codes of all their elements."""
    excess = _look_up(SAFE_SHARE * book.gaps.of_code, strips)
    excess.mul_(strips.scales.abs().unsqueeze(1))
    torch.sub(strips.change.abs(), excess, out=excess)
    most = excess.amax(dim=1)
    floor = book.gaps.floor
    is_near = ~(most < -SAFE_SHARE * floor)
    steps = strips.scales * book.gaps.least - floor
    least_scale = max(_LEAST_SCALE, floor / _DOUBT)
    is_regular = (steps > 0) & (strips.scales >= least_scale) & most.isfinite()
    if book.low is None:
        is_regular.zero_()
    for mask, decide in ((is_regular, _by_table), (~is_regular, _by_search)):
        which = (is_near & mask).nonzero().squeeze(1)
        if which.numel():
            part = strips.take(which)
            yield part, decide(part, book)


def _by_table(strips: _Strips, book: _Book) -> Tensor:
    """Nearest codes, uint8 ``[c, size]``, of blocks whose values keep the code book's order."""
    assert book.low is not None, "without a table, strips are searched"
    scales = strips.scales.unsqueeze(1)
    ordered = scaled_values(strips.scales, book.code, book.dtype).index_select(1, book.order)
    midpoints = torch.full_like(ordered, torch.inf)
    torch.add(ordered[:, :-1], ordered[:, 1:], out=midpoints[:, :-1]).div_(2)
    held = _look_up(book.code, strips).mul_(scales)
    if book.dtype != torch.float32:
        held = held.to(book.dtype).float()
    wanted = held + strips.change
    bins = (wanted * (_BINS / scales)).add_(_BINS).clamp_(0, 2 * _BINS - 1).int()
    # int32 is enough for the places of a piece, and half the bytes
    place = book.low.index_select(0, bins.view(-1)).view_as(bins)
    place += 16 * torch.arange(len(bins), dtype=torch.int32, device=bins.device).unsqueeze(1)
    in_doubt = midpoints.view(-1).index_select(0, place.view(-1)).view_as(wanted)
    place += in_doubt < wanted
    found = ordered.view(-1).index_select(0, place.view(-1)).view_as(wanted)
    is_nearer = found.sub_(wanted).abs_() < held.sub_(wanted).abs_()
    new = place.to(torch.uint8).bitwise_and_(15)
    if not book.is_ascending:
        new = book.order.to(torch.uint8).index_select(0, new.view(-1).int()).view_as(new)
    return _chosen(is_nearer, new, _codes_of(strips))


def _by_search(strips: _Strips, book: _Book) -> Tensor:
    """Nearest codes, uint8 ``[c, size]``, of any blocks."""
    values = scaled_values(strips.scales, book.code, book.dtype)
    ordered, order = values.sort(dim=1, stable=True)
    midpoints = (ordered[:, :-1] + ordered[:, 1:]) / 2
    codes = _codes_of(strips)
    held = values.gather(1, codes.long())
    wanted = held + strips.change
    found = order.gather(1, torch.searchsorted(midpoints, wanted))
    is_nearer = (wanted - values.gather(1, found)).abs() < (wanted - held).abs()
    return _chosen(is_nearer, found.to(torch.uint8), codes)


def _chosen(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """``new.where(mask, old)`` without a branch for each byte; changes ``new``."""
    return new.bitwise_xor_(old).mul_(mask.view(torch.uint8)).bitwise_xor_(old)


def _codes_of(strips: _Strips) -> Tensor:
    if strips.change.shape[1] == 1:
        return strips.stored
    return unpack_codes(strips.stored, strips.change.numel()).view(strips.change.shape)


def _look_up(of_code: Tensor, strips: _Strips) -> Tensor:
    """For each code its number of fp32 ``[16]``: fp32 ``[c, size]``."""
    table = of_code if strips.change.shape[1] == 1 else pairs_of_bytes(of_code)
    found = table.index_select(0, strips.stored.view(-1).int())
    return found.view(torch.float32).view_as(strips.change)


@lru_cache(maxsize=32)
def _book_of(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> _Book:
    """Made on the CPU and kept, as a checkpoint has one code book, in each of its weights."""
    code = torch.tensor(values, dtype=torch.float64)
    order = code.argsort(stable=True)
    ordered = code[order]
    midpoints = (ordered[:-1] + ordered[1:]) / 2
    sizes = ordered[:-1].abs() + ordered[1:].abs()
    doubt = torch.finfo(dtype).eps / 4 * sizes + _DOUBT
    edges = torch.arange(2 * _BINS + 1, dtype=torch.float64) / _BINS - 1
    edges[0], edges[-1] = -torch.inf, torch.inf
    low = (midpoints + doubt < edges[:-1].unsqueeze(1)).sum(dim=1)
    high = (midpoints - doubt <= edges[1:].unsqueeze(1)).sum(dim=1)
    is_certain = bool((high - low <= 1).all())
    gaps = gaps_of(code.float(), dtype)
    return _Book(
        code=code.float().to(device),
        dtype=dtype,
        gaps=Gaps(gaps.least.to(device), gaps.of_code.to(device), gaps.floor),
        order=order.to(device),
        is_ascending=bool((order.diff() > 0).all()),
        low=low.int().to(device) if is_certain else None,
    )
