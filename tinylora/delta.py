"""ΔW of each module, as a product of two thin matrices.

With U, S, Vh the leading factors of W, P the projections and v the trained vector, all in bf16:

=============  ===========================  ====================================
formula        core R                       ΔW
=============  ===========================  ====================================
``full``       R = Σᵢ vᵢ Pᵢ                 U · diag(S) · R · Vh
``diagonal``   R = diag(v @ P)              U · diag(S ∘ (v @ P)) · Vh
=============  ===========================  ====================================

Shapes: out, in = the module's sides; r = rank; u = numel(v); n = number of modules.

``numerics="fp32"`` keeps the bf16 inputs and rounds nothing in between; ``"trainer"`` rounds to
bf16 where the trainer's bf16 products round, which moves ΔW by about 2⁻⁸ of its size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tinylora.artifact import Artifact, Formula, Stream
from tinylora.errors import ProjectionError, TargetMismatchError
from tinylora.factor_store import FactorStore, factors_of
from tinylora.factors import Factors, Method
from tinylora.projection import draw_projections
from tinylora.quantized_weight import QuantizedWeight

Numerics = Literal["fp32", "trainer"]

# Pieces of a dense ΔW: small enough for a core's cache, with enough rows that BLAS multiplies a
# piece as it would the whole (a product of very few rows takes another path and rounds otherwise).
_PIECE_ELEMENTS = 1 << 18
_PIECE_ROWS = 64


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


@dataclass(frozen=True, eq=False)
class LowRankDelta:
    """ΔW = left · right.

    Attributes:
        left: fp32 ``[out, r]``, U · diag(S) · R.
        right: fp32 ``[r, in]``, Vh.
        rounding: Dtype that the trainer rounded the product to; None under fp32 numerics.
    """

    left: Tensor
    right: Tensor
    rounding: torch.dtype | None = None

    def dense(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``."""
        return self._rows(slice(None))

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """ΔW in rows: which rows, and their values, fp32; bit for bit those of :meth:`dense`."""
        rows, columns = self.left.shape[0], self.right.shape[1]
        count = max(1, rows // max(_PIECE_ROWS, _PIECE_ELEMENTS // columns))
        for i in range(count):
            part = slice(rows * i // count, rows * (i + 1) // count)
            yield part, self._rows(part)

    def _rows(self, part: slice) -> Tensor:
        product = self.left[part] @ self.right
        return product if self.rounding is None else product.to(self.rounding).float()


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


def core_matrix(global_v: Tensor, projection: Tensor, formula: Formula) -> Tensor:
    """R of one module or of many at once.

    Args:
        global_v: ``[u]``.
        projection: ``[..., u, r, r]`` (full) or ``[..., u, r]`` (diagonal), of the same dtype.
        formula: Which of the two.

    Returns:
        ``[..., r, r]``, differentiable in ``global_v``.
    """
    if formula == "full":
        return (global_v @ projection.flatten(-2)).view(
            projection.shape[:-3] + projection.shape[-2:]
        )
    return torch.diag_embed(global_v @ projection)


def left_factor(U: Tensor, S: Tensor, R: Tensor, numerics: Numerics, formula: Formula) -> Tensor:
    """U · diag(S) · R, ``[out, r]``, in the dtype of the arguments.

    Args:
        U: ``[out, r]``.
        S: ``[r]``.
        R: ``[r, r]``.
        numerics: ``trainer`` rounds R and each product to bf16, in the trainer's order.
        formula: Decides that order.
    """
    if numerics == "fp32":
        return (U * S) @ R

    def bf16(x: Tensor) -> Tensor:
        return x.to(torch.bfloat16).to(U.dtype)

    if formula == "full":
        return bf16(bf16(U * S) @ bf16(R))
    return bf16(U * bf16(S * bf16(R.diagonal())))


def bf16_factors(factors: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """U, S, Vh as the trainer kept them: rounded to bf16."""
    return tuple(t.to(torch.bfloat16) for t in (factors.U, factors.S, factors.Vh))  # type: ignore[return-value]


class AdapterDeltas:
    """The deltas of one artifact on one list of modules, made one at a time.

    Args:
        artifact: The artifact.
        names: All target modules, in the order of the random stream.
        options: How to rebuild.
        store: Where factors are kept; None computes them every time.

    Attributes:
        names: As given.
        resolved: The options with every ``auto`` decided.
        projections: P of every module, see :func:`tinylora.projection.draw_projections`.
        cores: R of every module, float64 ``[n, r, r]``.

    Raises:
        ProjectionError: The random stream cannot be reproduced as asked.
    """

    def __init__(
        self,
        artifact: Artifact,
        names: Sequence[str],
        options: DeltaOptions | None = None,
        store: FactorStore | None = None,
    ) -> None:
        options = options or DeltaOptions()
        self.artifact = artifact
        self.names = tuple(names)
        self.resolved = resolve_options(artifact, options)
        self.projections = draw_projections(
            self.names,
            artifact.u,
            artifact.rank,
            artifact.seed,
            formula=self.resolved.formula,
            rng=self.resolved.rng,
            placement=options.placement,
        )
        self.cores = core_matrix(
            artifact.global_v.double(), self.projections.double(), self.resolved.formula
        )
        self._store = store
        self._index = {name: i for i, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Position of a module in the random stream.

        Raises:
            TargetMismatchError: No such target module.
        """
        if name not in self._index:
            raise TargetMismatchError(f"{name!r} is not among the {len(self.names)} target modules")
        return self._index[name]

    def factors(self, name: str, weight: QuantizedWeight | Tensor) -> Factors:
        """Factors of a module's weight.

        Args:
            name: The module.
            weight: Its frozen weight.

        Raises:
            FactorizationError: The SVD failed.
        """
        self.index(name)
        return factors_of(weight, self.artifact.rank, self.resolved.svd, self._store)

    def delta(self, name: str, weight: QuantizedWeight | Tensor) -> LowRankDelta:
        """ΔW of a module.

        Args:
            name: The module.
            weight: Its frozen weight.

        Raises:
            TargetMismatchError: No such target module.
            FactorizationError: The SVD failed.
        """
        return self.delta_of(name, self.factors(name, weight))

    def delta_of(self, name: str, factors: Factors) -> LowRankDelta:
        """ΔW of a module whose factors are known.

        Args:
            name: The module.
            factors: Factors of its weight.
        """
        U, S, Vh = bf16_factors(factors)
        R = self.cores[self.index(name)]
        numerics, formula = self.resolved.numerics, self.resolved.formula
        # float64 in between: the sums over u may cancel
        left = left_factor(U.double(), S.double(), R, numerics, formula)
        rounding = torch.bfloat16 if numerics == "trainer" else None
        return LowRankDelta(left.float(), Vh.float(), rounding)
