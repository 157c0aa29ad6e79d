"""Decides what an artifact's file leaves open of how its delta is rebuilt."""

from collections.abc import Iterator

from tinylora.adapters.options import DeltaOptions, FormulaChoice, ResolvedOptions, Stream
from tinylora.adapters.upstream.artifact import Artifact
from tinylora.adapters.upstream.formula import HOW_TO_TELL, KnownFormula
from tinylora.adapters.upstream.placement import checked_placement
from tinylora.errors import OptionsError, ProjectionError
from tinylora.svd.factors import Method


def resolve_options(artifact: Artifact, options: DeltaOptions) -> ResolvedOptions:
    """Decide every ``auto``.

    Raises:
        OptionsError: ``formula="auto"``, and nothing in the file tells the formula.
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
        raise OptionsError(
            f"{artifact.path}: nothing in the file tells with which formula it was trained, and "
            "another one than that is another model, which nothing would show. Give --formula "
            f"(formula= in Python and YAML) full, diagonal or diagonal-unscaled. To tell which, "
            f"{HOW_TO_TELL}"
        )
    return artifact.known_formula


def doubts(artifact: Artifact, resolved: ResolvedOptions) -> Iterator[str]:
    """Reasons, in plain words, to doubt that options rebuild the delta that was trained."""
    if resolved.svd == "fast" and resolved.formula == "full":
        yield (
            "svd fast with formula full: singular vectors may have other relative signs than in "
            "training (5 to 20 % of weights, more where singular values lie close), and there the "
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
