"""The deltas of an artifact on the modules of one base; their arithmetic is in ``linear``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinylora.adapters.adapted_linear import TinyLoRAGlobalParams
from tinylora.adapters.adapter import position
from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
from tinylora.adapters.options import DeltaOptions
from tinylora.adapters.upstream.artifact import Artifact
from tinylora.adapters.upstream.linear import (
    TinyLoRALinear,
    bf16_factors,
    core_matrix,
    left_factor,
)
from tinylora.adapters.upstream.projection import draw_projections
from tinylora.adapters.upstream.resolve import doubts, resolve_options
from tinylora.svd.factor_store import FactorStore, factors_of
from tinylora.svd.factors import Factors
from tinylora.weights.quantized_weight import QuantizedWeight


class AdapterDeltas:
    """The deltas of one artifact on one list of modules, made one at a time.

    Attributes:
        names: All target modules, in the order of the random stream.
        vectors: The shared vector, ``[1, u]``.
        resolved: The options with every ``auto`` decided.
        doubts: Reasons to doubt that they rebuild the delta that was trained.
        projections: P of every module, see
            :func:`tinylora.adapters.upstream.projection.draw_projections`.
        cores: R of every module, float64 ``[n, r, r]``.
    """

    weight_tying = 1.0

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
        self.vectors = artifact.global_v.unsqueeze(0)
        self.resolved = resolve_options(artifact, options)
        self.doubts = tuple(doubts(artifact, self.resolved))
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

    def module(
        self, name: str, weight: Callable[[], QuantizedWeight | Tensor]
    ) -> "ArtifactModuleDelta":
        """The delta of a module, its weight factorized; a TargetMismatchError if it is none."""
        index = position(self.names, name)
        factors = factors_of(weight(), self.artifact.rank, self.resolved.svd, self._store)
        return ArtifactModuleDelta(self, index, factors)

    def delta(self, name: str, weight: QuantizedWeight | Tensor) -> LowRankDelta:
        """ΔW of a module with a frozen weight; errors as for :meth:`module`."""
        return self.module(name, lambda: weight).low_rank()


@dataclass(frozen=True, eq=False)
class ArtifactModuleDelta:
    """The delta of the module with this number in the random stream."""

    deltas: AdapterDeltas
    index: int
    factors: Factors

    def low_rank(self) -> LowRankDelta:
        """ΔW under the deltas' numerics."""
        U, S, Vh = bf16_factors(self.factors)
        resolved, R = self.deltas.resolved, self.deltas.cores[self.index]
        # float64 in between: the sums over u may cancel
        left = left_factor(U.double(), S.double(), R, resolved.numerics, resolved.formula)
        rounding = torch.bfloat16 if resolved.numerics == "trainer" else None
        return LowRankDelta(left.float(), Vh.float(), rounding)

    def parts(self) -> TinyLoRAParts:
        """ΔW in PEFT's form: A = Vh, B = U · diag(S), P full; under fp32 numerics the very same."""
        U, S, Vh = (t.float() for t in bf16_factors(self.factors))
        P = self.deltas.projections[self.index].float()
        full = P if self.deltas.resolved.formula == "full" else torch.diag_embed(P)
        return TinyLoRAParts(A=Vh, B=U * S, P=full, group=0)

    def wrap(self, layer: nn.Module, params: TinyLoRAGlobalParams) -> TinyLoRALinear:
        """The layer with the delta at run time, trainable in the shared vector."""
        P, resolved = self.deltas.projections[self.index], self.deltas.resolved
        return TinyLoRALinear(layer, params, self.factors, P, resolved.formula, resolved.numerics)
