"""Choosing 4-bit codes for W + ΔW.

``preserve`` keeps every scale of the base. Element by element it takes the code whose value, as
the forward pass sees it (scaled, rounded to the checkpoint's dtype), is nearest to W + ΔW, and
leaves a code alone unless another is strictly nearer: no other choice of codes on these scales has
a smaller ‖E − Δ‖. ``recompute`` is what merging with PEFT does: dequantize, add, quantize with
bitsandbytes under new scales.
"""

import json
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from exporter.quantize.moves import fold_reached, scaled_values
from exporter.quantize.reach import reaches, strip_size
from tinylora import LowRankDelta, QuantizedWeight

# Strips of weights that are asked together; their bounds, scales and steps are 4 bytes each.
_STRIPS_AT_ONCE = 1 << 18
_STRIPS_AT_ONCE_ON_DEVICE = 1 << 25


def preserve(base: QuantizedWeight, delta: LowRankDelta) -> QuantizedWeight:
    """Re-round the codes under the base's own scales.

    Args:
        base: The base's weight, ``[out, in]``.
        delta: The delta to add, ``[out, in]``.

    Returns:
        ``base`` itself where no code moves; otherwise the same statistics with other codes.
    """
    return preserve_batch([base], [delta])[0]


def preserve_batch(
    bases: Sequence[QuantizedWeight], deltas: Sequence[LowRankDelta]
) -> list[QuantizedWeight]:
    """:func:`preserve` of many weights; those of one layout are asked together what can move.

    Beside the results it holds a piece of one weight, and a few bytes for each strip of the weights
    that are asked together (see :mod:`exporter.quantize.reach`).

    Args:
        bases: The base's weights.
        deltas: The delta of each.

    Returns:
        The weights in the same order, the given one wherever no code moves.
    """
    found = list(bases)
    for members in _alike(bases, deltas):
        ways = reaches([bases[i] for i in members], [deltas[i] for i in members])
        for i, reach in zip(members, ways, strict=True):
            if reach is not None:
                found[i] = fold_reached(bases[i], deltas[i], reach)
    return found


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
    return scaled_values(weight.block_absmax(), weight.code, weight.dtype)


def _alike(bases: Sequence[QuantizedWeight], deltas: Sequence[LowRankDelta]) -> Iterator[list[int]]:
    """Numbers of weights of one layout, as many together as the workspace allows."""
    layouts: dict[Hashable, list[int]] = {}
    for i, (base, delta) in enumerate(zip(bases, deltas, strict=True)):
        nested = None if base.nested is None else base.nested.blocksize
        device, rank = base.data.device, delta.left.shape[1]
        kind = (base.quant_type, base.blocksize, base.dtype, nested)
        layout = (base.shape, kind, device, rank)
        layouts.setdefault(layout, []).append(i)
    for members in layouts.values():
        first = bases[members[0]]
        on_cpu = first.data.device.type == "cpu"
        room = _STRIPS_AT_ONCE if on_cpu else _STRIPS_AT_ONCE_ON_DEVICE
        count = max(1, room // (first.numel // strip_size(first)))
        for start in range(0, len(members), count):
            yield members[start : start + count]


def _with_dtype(weight: QuantizedWeight, dtype: torch.dtype) -> QuantizedWeight:
    """The same weight, to be rounded to ``dtype`` by the forward pass."""
    state = json.loads(weight.state) | {"dtype": str(dtype).removeprefix("torch.")}
    return replace(weight, dtype=dtype, state=json.dumps(state).encode())
