"""The problem families of the demo suite, by topic."""

from demo.families import (
    arithmetic,
    arrays,
    grids,
    number_theory,
    open_ended,
    sequences,
    strings,
)
from demo.families.core import NAMES, SECTIONS, Family

FAMILIES: tuple[Family, ...] = (
    *arithmetic.FAMILIES,
    *sequences.FAMILIES,
    *arrays.FAMILIES,
    *number_theory.FAMILIES,
    *strings.FAMILIES,
    *grids.FAMILIES,
    *open_ended.FAMILIES,
)

__all__ = ["FAMILIES", "NAMES", "SECTIONS", "Family"]
