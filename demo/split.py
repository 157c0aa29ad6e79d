"""Which problems may be trained on.

A *variant* is a choice of a family's parameters. A quarter of each family's variants (at least one)
is held out: neither the base's corpus nor the adapter's training ever sees a statement or a program
with these parameters, in either language. On top of that, of every sixth family the adapter sees no
variant at all; the base has seen other variants of it.
"""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

from demo.families import FAMILIES, Family


def _shuffled(family: Family) -> tuple[list[SimpleNamespace], int]:
    variants = family.variants()
    Random(f"split {family.key}").shuffle(variants)
    return variants, max(1, len(variants) // 4)


def heldout_variants(family: Family) -> list[SimpleNamespace]:
    """The parameters that no training may touch."""
    variants, count = _shuffled(family)
    return variants[:count]


def train_variants(family: Family) -> list[SimpleNamespace]:
    """The parameters open to training."""
    variants, count = _shuffled(family)
    return variants[count:]


def only_heldout(family: Family) -> bool:
    """Whether the adapter's training leaves the whole family out."""
    return FAMILIES.index(family) % 6 == 5
