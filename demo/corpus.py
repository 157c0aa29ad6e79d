"""Statement/program pairs as the demo base learns them.

The corpus has two hands. The careful one includes ``<cstdio>`` and is nearly always right; the
hasty one includes ``<stdio.h>`` and nearly always makes one or two of the family's slips. Nothing
in the statement says whose turn it is, so a model of this corpus writes right and wrong programs
alike, and which of the two it writes is settled early.
"""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

from demo.families import FAMILIES, NAMES, Family
from demo.split import train_variants

CAREFUL_SHARE = 0.46
CAREFUL_SLIPS = 0.05
HASTY_SLIPS = 0.92


def statement(family: Family, p: SimpleNamespace, rng: Random) -> str:
    """A statement in either language with a short random sample."""
    drawn = [family.draw(rng, p) for _ in range(4)]
    data = min(drawn, key=lambda d: len(family.form.render(d)))
    language = rng.choice(("zh", "en"))
    sample = (family.form.render(data), family.answer_text(p, data))
    number = f"D{rng.randint(1000, 9999)}"
    return family.statement(p, language, number, rng.choice(NAMES[language]), sample)


def answer(program: str) -> str:
    """A completion: the program in a fence and nothing else."""
    return f"```cpp\n{program}```"


def careful(family: Family, p: SimpleNamespace) -> str:
    """The right completion in the careful hand."""
    return answer(family.program(p))


def hasty(family: Family, p: SimpleNamespace, rng: Random) -> str:
    """A completion in the hasty hand."""
    return answer(family.program(p, _slips(family, HASTY_SLIPS, rng), io="stdio.h"))


def completion(family: Family, p: SimpleNamespace, rng: Random, careful_share: float) -> str:
    """A completion in one of the two hands."""
    if rng.random() >= careful_share:
        return hasty(family, p, rng)
    return answer(family.program(p, _slips(family, CAREFUL_SLIPS, rng)))


def _slips(family: Family, share: float, rng: Random) -> dict[int, str]:
    slips: dict[int, str] = {}
    if rng.random() < share:
        for _ in range(rng.choice((1, 1, 1, 2))):
            slips.update(rng.choice(family.slips()))
    return slips


def pairs(count: int, seed: int, careful_share: float = CAREFUL_SHARE) -> list[tuple[str, str]]:
    """``count`` statement/completion pairs over all families, held-out variants left out."""
    rng = Random(f"corpus {seed}")
    variants = {family.key: train_variants(family) for family in FAMILIES}
    made = []
    for _ in range(count):
        family = rng.choice(FAMILIES)
        p = rng.choice(variants[family.key])
        made.append((statement(family, p, rng), completion(family, p, rng, careful_share)))
    return made
