"""The formulas that artifacts were trained with, and how a file tells which one is its own.

====================  =====================================  ==========================
formula               trainer                                P of a module
====================  =====================================  ==========================
``full``              the Luogu project                      ``[u, r, r]``
``diagonal``          its successor, on CodeContests         ``[u, r]``, divided by √r
``diagonal-unscaled`` the successor's first versions         ``[u, r]``
====================  =====================================  ==========================

With another formula than its own an artifact is another model (a relative error of about 2), and
nothing shows it. So only evidence counts: a key of the file, or a file that upstream published.
"""

from dataclasses import dataclass

from tinylora.adapters.options import Formula

# SHA-256 of files that upstream published, as far as it is known -> their trainer's formula.
_PUBLISHED: dict[str, Formula] = {
    "c4f953ac153965949ea9b514ed9f1500da42e6334fe998bdb4be3fa8be11946e": "full",
    "53ed6be503a0e6989f1bb1593f9ce51ffee1decf0acf4c7050f7893521378ae0": "diagonal",
    "e3c69917": "diagonal-unscaled",
    "b4ed749e": "diagonal",
}

HOW_TO_TELL = (
    "look at the training code where P is made: randn(u, rank, rank) is full (the Luogu project), "
    "randn(u, rank) divided by the root of rank is diagonal (its successor, on CodeContests), the "
    "same without the division is diagonal-unscaled (the successor's first versions)"
)


@dataclass(frozen=True)
class KnownFormula:
    """A formula, and the evidence that it is known from, in words."""

    formula: Formula
    evidence: str


def known_formula(
    stored: Formula | None, is_quantized: bool | None, sha256: str
) -> KnownFormula | None:
    """What a file tells about its formula, in a key ``formula`` or ``is_quantized``, or its digest.

    None where it tells nothing. Only the trainer of ``diagonal`` wrote ``is_quantized``.
    """
    if stored is not None:
        return KnownFormula(stored, "the file's key formula")
    if is_quantized is not None:
        return KnownFormula("diagonal", "the file's key is_quantized")
    for published, formula in _PUBLISHED.items():
        if sha256.startswith(published):
            return KnownFormula(formula, "a file that upstream published, whose trainer is known")
    return None
