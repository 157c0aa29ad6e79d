"""The names of the ways to choose 4-bit codes, apart from the code that needs torch."""

from typing import Literal

RequantizeMethod = Literal["preserve", "recompute", "calibrated"]
