"""How the deltas of upstream's dialect are rebuilt.

``numerics="fp32"`` keeps the bf16 inputs and rounds nothing in between; ``"trainer"`` rounds to
bf16 where the trainer's bf16 products round, which moves ΔW by about 2⁻⁸ of its size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tinylora.artifact import Artifact, Formula, Stream
from tinylora.errors import ProjectionError
from tinylora.factors import Method

Numerics = Literal["fp32", "trainer"]


@dataclass(frozen=True)
class DeltaOptions:
    """How to rebuild the deltas.

    Attributes:
        formula: ``auto`` follows the file's keys (a hint, not proof).
        rng: Generator that P came from; ``auto`` follows the device that the file names.
        svd: ``auto`` is ``exact`` for ``full`` and ``fast`` for ``diagonal``.
        numerics: See the module's text.
        placement: Training's module-to-device map, if the model was split over devices.
    """

    formula: Literal["auto", "full", "diagonal"] = "auto"
    rng: Literal["auto", "cuda", "cpu"] = "auto"
    svd: Literal["auto", "exact", "fast"] = "auto"
    numerics: Numerics = "fp32"
    placement: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ResolvedOptions:
    """:class:`DeltaOptions` with every ``auto`` decided."""

    formula: Formula
    rng: Stream
    svd: Method
    numerics: Numerics

    def __str__(self) -> str:
        return f"formula {self.formula}, rng {self.rng}, svd {self.svd}, numerics {self.numerics}"


def resolve_options(artifact: Artifact, options: DeltaOptions) -> ResolvedOptions:
    """Decide every ``auto``.

    Raises:
        ProjectionError: ``rng="auto"`` and the file names neither a CUDA device nor the CPU.
    """
    formula = artifact.formula_hint if options.formula == "auto" else options.formula
    rng = artifact.stream_hint if options.rng == "auto" else options.rng
    if rng is None:
        raise ProjectionError(
            f"{artifact.path}: saved from device {artifact.saved_device!r}, whose random stream "
            "is not known here; say rng=cuda or rng=cpu if P was drawn there"
        )
    by_formula: Method = "exact" if formula == "full" else "fast"
    svd = by_formula if options.svd == "auto" else options.svd
    return ResolvedOptions(formula, rng, svd, options.numerics)
