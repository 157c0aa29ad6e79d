"""4-bit codes of large weights, a cache-sized piece at a time.

Quantizing is bitsandbytes' own work: its CPU kernel finds each code by binary search, one value
after the other, with several float32 copies of the weight beside it. For nf4 a table does the same
thirteen times faster: the bin of a number tells its code, but for the few numbers in a bin with a
rounding edge, which are compared with the edge. It is used with releases of bitsandbytes with which
the tests have shown the same bits; any other does the work itself. Importing bitsandbytes loads
torch's compiler and takes seconds.
"""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import version

import torch
from torch import Tensor

from tinylora.weights.code_books import QuantType, code_book, dynamic_code_book

# A multiple of every block size. On the CPU a piece stays in the cache with what is made of it.
_ELEMENTS_AT_ONCE = 1 << 18
_ELEMENTS_AT_ONCE_ON_DEVICE = 1 << 25
_BINS = 1 << 14  # between 0 and 1
_MARK, _MARKS = 0x80, -0x7F7F7F7F7F7F7F80  # in the code of a bin with an edge; in eight of them
_LEAST_ABSMAX = 1e-38
SCALES_A_BLOCK = 256
_STEPS = 65535  # in which bitsandbytes' CPU kernel counts a scale between -1 and 1
# Releases with which the tests of this file's work were run.
_COMPARED_RELEASES = ("0.50.",)


def quantize_blocks(weight: Tensor, quant_type: QuantType, blocksize: int) -> tuple[Tensor, Tensor]:
    """Codes and scales of n bf16, fp16 or fp32 numbers, as bitsandbytes' ``quantize_4bit`` does.

    Returns:
        uint8 ``[ceil(n/2), 1]``, two codes a byte, and the absmax, fp32 ``[ceil(n/blocksize)]``.
    """
    flat = weight.contiguous().reshape(-1)
    numel = flat.numel()
    packed = torch.empty((-(-numel // 2), 1), dtype=torch.uint8, device=flat.device)
    absmax = torch.empty(-(-numel // blocksize), dtype=torch.float32, device=flat.device)
    by_table = quant_type == "nf4" and flat.device.type == "cpu" and _is_compared()
    for start, piece in _pieces(flat):
        if by_table:
            codes, scales = _quantize_nf4(piece, blocksize)
        else:
            from bitsandbytes.functional import quantize_4bit

            codes, state = quantize_4bit(piece, blocksize=blocksize, quant_type=quant_type)
            scales = state.absmax
        packed[start // 2 : start // 2 + len(codes)] = codes
        absmax[start // blocksize : start // blocksize + len(scales)] = scales
    return packed, absmax


def quantize_scales(scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """8-bit codes of scales without their mean, fp32 ``[n]``, as its ``quantize_blockwise`` does.

    Returns:
        uint8 ``[n]``, the absmax, fp32 ``[ceil(n/256)]``, and the code book, fp32 ``[256]``.
    """
    if scales.device.type == "cpu" and _is_compared():
        # each weight gets its own: safetensors refuses tensors that share memory
        return *_by_steps(scales), dynamic_code_book().clone()
    from bitsandbytes.functional import quantize_blockwise

    codes, state = quantize_blockwise(scales, blocksize=SCALES_A_BLOCK)
    return codes, state.absmax, state.code


def dequantize_blocks(
    data: Tensor, absmax: Tensor, pairs: Tensor, blocksize: int, out: Tensor
) -> Tensor:
    """Fill ``out``, ``[n]``, with code book times absmax in float32, rounded to its dtype.

    Data uint8 ``[ceil(n/2), 1]``, absmax fp32 ``[ceil(n/blocksize)]``, and the code book as
    :func:`pairs_of_bytes` gives it.
    """
    data = data.reshape(-1)
    for start, piece in _pieces(out):
        count = piece.numel()
        codes = data[start // 2 : -(-(start + count) // 2)].int()
        values = pairs.index_select(0, codes).view(torch.float32)[:count]
        scales = absmax[start // blocksize : -(-(start + count) // blocksize)]
        if count % blocksize == 0:
            values.view(-1, blocksize).mul_(scales.unsqueeze(1))
        else:
            values *= scales.repeat_interleave(blocksize)[:count]
        piece.copy_(values)
    return out


def pairs_of_bytes(values: Tensor) -> Tensor:
    """For each byte its two codes' values, of fp32 ``[16]``, as one number; float64 ``[256]``."""
    pairs = torch.stack((values.repeat_interleave(16), values.repeat(16)), dim=1)
    return pairs.view(torch.float64).view(-1)


@cache
def _table(rounding: float = 0.0) -> Tensor:
    """nf4 codes of equal bins from -1 to 1, of values that are right to a share of themselves.

    uint8 ``[2 * _BINS + 1]``; of a bin that may hold an edge the lower code, marked.
    """
    code = code_book("nf4")
    edges, moved = _edges()[:-1], rounding * (code[:-1].abs() + code[1:].abs()) / 2
    # a larger number has no lower bin, so beside an edge's bins the code is certain
    first, last = _bins(edges - moved), _bins(edges + moved)
    bins = torch.arange(2 * _BINS + 1, dtype=torch.int32)
    codes = torch.bucketize(bins, last).to(torch.uint8)
    codes[torch.bucketize(bins, first, right=True) > codes] |= _MARK
    return codes


def _edges() -> Tensor:
    """fp32 ``[16]``, above which a number gets not this code of nf4 but a later one."""
    code = code_book("nf4")
    return torch.nn.functional.pad((code[:-1] + code[1:]) / 2, (0, 1), value=torch.inf)


def _bins(scaled: Tensor) -> Tensor:
    return torch.add(torch.tensor(_BINS), scaled, alpha=_BINS).int()


def likely_codes(scaled: Tensor, rounding: float) -> tuple[Tensor, Tensor]:
    """nf4 codes nearest to numbers, where the codes' values are right to a share of themselves.

    ``scaled`` is fp32 ``[n, m]``.

    Returns:
        Codes, uint8 ``[n, m]``, and the places, ``[k]``, of those to which the next may be nearer.
    """
    bins = _bins(scaled.clamp(-1, 1)).view(-1)
    codes = _table(rounding).to(scaled.device).index_select(0, bins)
    unsure = (codes & _MARK).nonzero().squeeze(1)
    return codes.bitwise_and_(_MARK - 1).view_as(scaled), unsure


def _is_compared() -> bool:
    return version("bitsandbytes").startswith(_COMPARED_RELEASES)


def _quantize_nf4(piece: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    """Codes, uint8 ``[ceil(n/2), 1]``, and scales of a piece; zeros make its last block whole."""
    count = piece.numel()
    scaled = torch.empty(-(-count // blocksize) * blocksize, dtype=torch.float32)
    scaled[:count], scaled[count:] = piece, 0
    blocks = scaled.view(-1, blocksize)
    absmax = blocks.abs().amax(dim=1)
    divisors = absmax.clamp(min=_LEAST_ABSMAX)
    last = blocks[-1] / divisors[-1]
    blocks *= (1.0 / divisors).unsqueeze(1)
    if count % blocksize:  # bitsandbytes treats a block that is not whole a little differently
        blocks[-1], absmax[-1] = last, divisors[-1]
    codes = _table().index_select(0, _bins(scaled))
    # the few numbers in bins with an edge are compared with it, and are looked for eight at a time
    groups = codes.view(torch.int64).bitwise_and(_MARKS).nonzero()
    places = (groups * 8 + torch.arange(8)).view(-1)
    lower = codes[places] & (_MARK - 1)
    codes[places] = lower + (scaled[places] > _edges()[lower.int()])
    pairs = codes.view(torch.int16)
    packed = (pairs << 4 | pairs >> 8).to(torch.uint8)
    return packed[: -(-count // 2)].unsqueeze(1), absmax


def _by_steps(scales: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest code of the nearest of 65536 equal steps, which is the CPU kernel's rounding."""
    values = torch.nn.functional.pad(scales, (0, -scales.numel() % SCALES_A_BLOCK))
    blocks = values.view(-1, SCALES_A_BLOCK)
    absmax = blocks.abs().amax(dim=1)
    unit = blocks * (1.0 / absmax.clamp(min=_LEAST_ABSMAX)).unsqueeze(1)
    steps = ((unit.clamp(-1, 1) + 1) * (_STEPS / 2) + 0.5).int()
    steps[absmax == 0] = 0
    return _codes_of_steps()[steps.view(-1)[: scales.numel()]], absmax


@cache
def _codes_of_steps() -> Tensor:
    code = dynamic_code_book().double()
    values = torch.arange(_STEPS + 1, dtype=torch.float64) * 2 / _STEPS - 1
    return torch.bucketize(values, (code[:-1] + code[1:]) / 2).to(torch.uint8)


def _pieces(flat: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Where each piece begins, and the piece."""
    on_cpu = flat.device.type == "cpu"
    step = _ELEMENTS_AT_ONCE if on_cpu else _ELEMENTS_AT_ONCE_ON_DEVICE
    for start in range(0, flat.numel(), step):
        yield start, flat[start : start + step]
