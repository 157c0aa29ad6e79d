"""The code books of bitsandbytes' 4-bit format, so that writing it needs no import of bitsandbytes.

nf4: quantiles of a normal distribution (Dettmers et al., "QLoRA", 2023, arXiv:2305.14314). fp4: one
sign, two exponent and one mantissa bit, in the order of the bit patterns. The scales of blocks are
stored in a dynamic 8-bit type (Dettmers, "8-Bit Approximations for Parallelism in Deep Learning",
2016, arXiv:1511.04561): the further a number is from 1, the fewer of its bits are left for digits.
"""

from functools import cache
from typing import Literal

import torch
from torch import Tensor

QuantType = Literal["nf4", "fp4"]

_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
_FP4_TWELFTHS = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
_DECADES = 7


def code_book(quant_type: QuantType) -> Tensor:
    """Values of the codes 0 … 15, fp32 ``[16]``."""
    if quant_type == "nf4":
        return torch.tensor(_NF4, dtype=torch.float32)
    magnitudes = torch.tensor(_FP4_TWELFTHS, dtype=torch.float32)
    return torch.cat([magnitudes, -magnitudes]) / 12


@cache
def dynamic_code_book() -> Tensor:
    """Values of the scales' codes 0 … 255, ascending, fp32 ``[256]``; not to be written to."""
    values = [0.0, 1.0]
    for bits in range(_DECADES):
        edges = torch.linspace(0.1, 1, 2**bits + 1, dtype=torch.float32)
        digits = 10.0 ** (bits + 1 - _DECADES) * ((edges[:-1] + edges[1:]) / 2)
        values += [*digits.tolist(), *(-digits).tolist()]
    return torch.tensor(sorted(values), dtype=torch.float32)
