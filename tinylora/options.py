"""How the deltas of upstream's dialect are rebuilt.

``numerics="fp32"`` keeps the bf16 inputs and rounds nothing in between; ``"trainer"`` rounds to
bf16 where the trainer's bf16 products round, which moves ΔW by about 2⁻⁸ of its size.
"""

from collections.abc import Iterator, Mapping
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


def doubts(artifact: Artifact, resolved: ResolvedOptions) -> Iterator[str]:
    """Reasons, in plain words, to doubt that options rebuild the delta that was trained.

    An export and a restored model that are made with the same doubtful options agree perfectly, so
    that no comparison of the two can show it.

    Args:
        artifact: What was trained.
        resolved: How its delta is rebuilt.
    """
    if resolved.svd == "fast" and resolved.formula == "full":
        yield (
            "svd fast with formula full: singular vectors may have other relative signs than in "
            "training (5 to 10 % of weights, more where singular values lie close), and there the "
            "delta is another one; leave svd at auto"
        )
    if resolved.rng != (artifact.stream_hint or resolved.rng):
        yield (
            f"rng {resolved.rng}, but the file was saved from {artifact.saved_device}, where "
            f"training drew P from the {artifact.stream_hint} stream: if that is so, this is "
            "another model; leave rng at auto"
        )
    if resolved.formula != artifact.formula_hint:
        yield (
            f"formula {resolved.formula}, but the file's keys suggest {artifact.formula_hint}; "
            "only the trainer's code can tell, and the wrong one is another model"
        )
    if artifact.is_quantized is False:
        yield (
            "is_quantized is False in the file: it was trained on 16-bit weights, and the delta "
            "is rebuilt from 4-bit ones here, whose singular vectors are others"
        )
