"""A weight as a format would store it, computed without writing anything."""

from typing import Literal

import torch
from torch import Tensor

from exporter.quantize.calibrated import calibrated
from exporter.quantize.requantize import preserve, recompute
from exporter.request import RequantizeMethod
from tinylora import LowRankDelta, QuantizedWeight
from tinylora.svd.factors import weight_matrix

Stored = Literal["base", "exact", "preserve", "recompute", "calibrated", "bf16", "fp16"]
"""Without the delta, with all of it, requantized by one of the methods, or rounded to 16 bits."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def stored_weight(
    seen: QuantizedWeight | Tensor,
    delta: LowRankDelta,
    stored: Stored,
    moment: Tensor | None = None,
) -> Tensor:
    """What the forward pass would see, float32 ``[out, in]``.

    Args:
        seen: The base's weight; for a 4-bit way of storing, a 4-bit one.
        delta: The delta to add.
        stored: How.
        moment: For ``calibrated``, see :func:`exporter.quantize.calibrated.calibrated`.
    """
    if stored == "base":
        return weight_matrix(seen)
    if stored == "exact" or stored == "bf16" or stored == "fp16":
        total = weight_matrix(seen) + delta.dense()
        return total if stored == "exact" else total.to(_DTYPES[stored]).float()
    if isinstance(seen, Tensor):  # the base has this module in 16 bits, and so it stays
        return (weight_matrix(seen) + delta.dense()).to(seen.dtype).float()
    return weight_matrix(requantized(seen, delta, stored, moment))


def requantized(
    seen: QuantizedWeight,
    delta: LowRankDelta,
    method: RequantizeMethod,
    moment: Tensor | None = None,
) -> QuantizedWeight:
    """The 4-bit weight that a method stores; the base's own object where nothing changes."""
    match method:
        case "preserve":
            return preserve(seen, delta)
        case "recompute":
            return recompute(seen, delta)
        case "calibrated":
            assert moment is not None, "calibration texts were asked for with the method"
            return calibrated(seen, delta, moment)
