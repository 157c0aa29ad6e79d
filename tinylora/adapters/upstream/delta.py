"""ΔW of each module, as a product of two thin matrices.

With U, S, Vh the leading factors of W, P the projections and v the trained vector, all in bf16:

=============  ===========================  ====================================
formula        core R                       ΔW
=============  ===========================  ====================================
``full``       R = Σᵢ vᵢ Pᵢ                 U · diag(S) · R · Vh
``diagonal``   R = diag(v @ P)              U · diag(S ∘ (v @ P)) · Vh
=============  ===========================  ====================================

``diagonal-unscaled`` is ``diagonal`` with another P, see ``projection``.

Shapes: out, in = the module's sides; r = rank; u = numel(v); n = number of modules.

Options, numerics among them, are in ``options``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
from tinylora.adapters.upstream.artifact import Artifact
from tinylora.adapters.upstream.formula import Formula
from tinylora.adapters.upstream.options import DeltaOptions, Numerics, resolve_options
from tinylora.adapters.upstream.projection import draw_projections
from tinylora.errors import TargetMismatchError
from tinylora.svd.factor_store import FactorStore, factors_of
from tinylora.svd.factors import Factors
from tinylora.weights.quantized_weight import QuantizedWeight


def core_matrix(global_v: Tensor, projection: Tensor, formula: Formula) -> Tensor:
    """R of one module or of many at once.

    Args:
        global_v: ``[u]``.
        projection: ``[..., u, r, r]`` (full) or ``[..., u, r]`` (else), of the same dtype.
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
        rank: The artifact's.
        vectors: The shared vector, ``[1, u]``.
        weight_tying: 1.0, as all modules share it.
        resolved: The options with every ``auto`` decided.
        projections: P of every module, see
        :func:`tinylora.adapters.upstream.projection.draw_projections`.
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
        self.rank = artifact.rank
        self.vectors = artifact.global_v.unsqueeze(0)
        self.weight_tying = 1.0
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

    def module(
        self,
        name: str,
        weight: Callable[[], QuantizedWeight | Tensor],
        digest: str | None = None,
    ) -> "ArtifactModuleDelta":
        """The delta of a module, its weight factorized.

        Args:
            name: The module.
            weight: Gives its frozen weight.
            digest: :func:`tinylora.svd.factors.weight_digest` of it, where that is known.

        Raises:
            TargetMismatchError: No such target module.
            FactorizationError: The SVD failed.
        """
        return ArtifactModuleDelta(self, name, self.factors(name, weight(), digest))

    def factors(
        self, name: str, weight: QuantizedWeight | Tensor, digest: str | None = None
    ) -> Factors:
        """Factors of a module's weight.

        Args:
            name: The module.
            weight: Its frozen weight.
            digest: As for :meth:`module`.

        Raises:
            FactorizationError: The SVD failed.
        """
        self.index(name)
        return factors_of(weight, self.artifact.rank, self.resolved.svd, self._store, digest)

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

    def parts_of(self, name: str, factors: Factors) -> TinyLoRAParts:
        """ΔW of a module in PEFT's form: A = Vh, B = U · diag(S), P full.

        Under fp32 numerics that is the very same delta: a product of two bf16 numbers is exact in
        fp32.

        Args:
            name: The module.
            factors: Factors of its weight.
        """
        U, S, Vh = (t.float() for t in bf16_factors(factors))
        P = self.projections[self.index(name)].float()
        full = P if self.resolved.formula == "full" else torch.diag_embed(P)
        return TinyLoRAParts(A=Vh, B=U * S, P=full, group=0)


@dataclass(frozen=True, eq=False)
class ArtifactModuleDelta:
    """The delta of one module, see :class:`tinylora.adapters.low_rank.ModuleDelta`."""

    deltas: AdapterDeltas
    name: str
    factors: Factors

    def low_rank(self) -> LowRankDelta:
        """ΔW under the deltas' numerics."""
        return self.deltas.delta_of(self.name, self.factors)

    def parts(self) -> TinyLoRAParts:
        """ΔW under fp32 numerics, taken apart."""
        return self.deltas.parts_of(self.name, self.factors)
