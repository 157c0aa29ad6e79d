"""How deltas are rebuilt, as far as an adapter's files leave it open.

``numerics="fp32"`` keeps the bf16 inputs and rounds nothing in between; ``"trainer"`` rounds to
bf16 where the trainer's bf16 products round, which moves ΔW by about 2⁻⁸ of its size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Formula = Literal["full", "diagonal", "diagonal-unscaled"]
FormulaChoice = Literal["auto", Formula]
Numerics = Literal["fp32", "trainer"]
Placement = Mapping[str, str | int]
Stream = Literal["cuda", "cpu"]
TrainedOn = Literal["4bit", "16bit"]


@dataclass(frozen=True)
class DeltaOptions:
    """How to rebuild the deltas; all but ``trained_on`` are of upstream's dialect.

    Attributes:
        formula: ``auto`` takes what the file proves (:mod:`tinylora.adapters.upstream.formula`).
        rng: Generator that P came from; ``auto`` follows the device that the file names.
        svd: ``auto`` is ``exact`` for ``full`` and ``fast`` for ``diagonal``.
        numerics: See the module's text.
        placement: Training's module-to-device map, if the model was split over devices, see
            :mod:`tinylora.adapters.upstream.placement`.
        trained_on: What the base's weights were in training; ``auto`` as the adapter says.
    """

    formula: FormulaChoice = "auto"
    rng: Literal["auto", "cuda", "cpu"] = "auto"
    svd: Literal["auto", "exact", "fast"] = "auto"
    numerics: Numerics = "fp32"
    placement: Placement | None = None
    trained_on: Literal["auto", "4bit", "16bit"] = "auto"


@dataclass(frozen=True)
class ResolvedOptions:
    """:class:`DeltaOptions` with every ``auto`` decided, and what tells the formula, in words."""

    formula: Formula
    formula_evidence: str
    rng: Stream
    svd: Literal["exact", "fast"]
    numerics: Numerics
    trained_on: TrainedOn

    def __str__(self) -> str:
        return (
            f"formula {self.formula} (by {self.formula_evidence}), rng {self.rng}, svd {self.svd}, "
            f"numerics {self.numerics}, trained on {self.trained_on}"
        )
