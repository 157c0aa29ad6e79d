"""How the deltas of upstream's dialect are rebuilt.

``numerics="fp32"`` keeps the bf16 inputs and rounds nothing in between; ``"trainer"`` rounds to
bf16 where the trainer's bf16 products round, which moves ΔW by about 2⁻⁸ of its size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tinylora.adapters.upstream.artifact import Artifact, Stream, TrainedOn
from tinylora.adapters.upstream.formula import HOW_TO_TELL, Formula, FormulaChoice, KnownFormula
from tinylora.adapters.upstream.placement import Placement, checked_placement
from tinylora.errors import FormulaUnknownError, ProjectionError
from tinylora.svd.factors import Method

Numerics = Literal["fp32", "trainer"]


@dataclass(frozen=True)
class DeltaOptions:
    """How to rebuild the deltas.

    Attributes:
        formula: ``auto`` takes what the file proves (:mod:`tinylora.adapters.upstream.formula`),
        and nothing else.
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
    """:class:`DeltaOptions` with every ``auto`` decided.

    Attributes:
        formula_evidence: What the formula is known from, in words.
    """

    formula: Formula
    formula_evidence: str
    rng: Stream
    svd: Method
    numerics: Numerics
    trained_on: TrainedOn

    def __str__(self) -> str:
        return (
            f"formula {self.formula} (by {self.formula_evidence}), rng {self.rng}, svd {self.svd}, "
            f"numerics {self.numerics}, trained on {self.trained_on}"
        )


def resolve_options(artifact: Artifact, options: DeltaOptions) -> ResolvedOptions:
    """Decide every ``auto``.

    Raises:
        FormulaUnknownError: ``formula="auto"``, and nothing in the file tells the formula.
        ProjectionError: ``rng="auto"`` and the file names neither a CUDA device nor the CPU.
    """
    known = _formula(artifact, options.formula)
    rng = _stream(artifact, options) if options.rng == "auto" else options.rng
    if rng is None:
        raise ProjectionError(
            f"{artifact.path}: saved from device {artifact.saved_device!r}, whose random stream "
            "is not known here; say rng=cuda or rng=cpu if P was drawn there"
        )
    by_formula: Method = "exact" if known.formula == "full" else "fast"
    return ResolvedOptions(
        formula=known.formula,
        formula_evidence=known.evidence,
        rng=rng,
        svd=by_formula if options.svd == "auto" else options.svd,
        numerics=options.numerics,
        trained_on=artifact.trained_on if options.trained_on == "auto" else options.trained_on,
    )


def _stream(artifact: Artifact, options: DeltaOptions) -> Stream | None:
    """The stream of the devices that held the model, where they are given; else of the vector's."""
    if options.placement is None:
        return artifact.stream_hint
    return "cpu" if set(checked_placement(options.placement).values()) == {"cpu"} else "cuda"


def _formula(artifact: Artifact, wanted: FormulaChoice) -> KnownFormula:
    if wanted != "auto":
        return KnownFormula(wanted, "the formula option")
    if artifact.known_formula is None:
        raise FormulaUnknownError(
            f"{artifact.path}: nothing in the file tells with which formula it was trained, and "
            "another one than that is another model, which nothing would show. Give --formula "
            f"(formula= in Python and YAML) full, diagonal or diagonal-unscaled. To tell which, "
            f"{HOW_TO_TELL}"
        )
    return artifact.known_formula


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
    known = artifact.known_formula
    if known is not None and resolved.formula != known.formula:
        yield (
            f"formula {resolved.formula}, but {known.evidence} says {known.formula}: if that is "
            "right, this is another model; leave formula at auto"
        )
    if artifact.is_quantized is not None and resolved.trained_on != artifact.trained_on:
        yield (
            f"trained on {resolved.trained_on}, but the file says is_quantized = "
            f"{artifact.is_quantized}: singular vectors of other weights make another delta; leave "
            "trained_on at auto"
        )
