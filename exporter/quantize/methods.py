"""The methods by which 4-bit codes are chosen for W + ΔW, by name."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from exporter.quantize.calibrated import calibrated
from exporter.quantize.requantize import preserve, recompute
from tinylora import LowRankDelta, QuantizedWeight

RequantizeMethod = Literal["preserve", "recompute", "calibrated"]


def requantized(
    seen: QuantizedWeight,
    delta: LowRankDelta,
    method: RequantizeMethod,
    moment: Callable[[], Tensor] | None = None,
) -> QuantizedWeight:
    """The 4-bit weight that a method stores; the base's own object where nothing changes.

    Args:
        seen: The base's weight, ``[out, in]``.
        delta: The delta to add.
        method: Which.
        moment: For ``calibrated``: gives mean(x xᵀ) of the module's inputs, float32 ``[in, in]``.
    """
    match method:
        case "preserve":
            return preserve(seen, delta)
        case "recompute":
            return recompute(seen, delta)
        case "calibrated":
            assert moment is not None, "calibration texts were asked for with the method"
            return calibrated(seen, delta, moment().to(seen.device))
