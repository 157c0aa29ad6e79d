"""The deltas of an artifact on the modules of one base, and the linear layer that applies one.

With U, S, Vh the leading factors of W, P the projections and v the trained vector, all in bf16:

=============  ===========================  ====================================
formula        core R                       ΔW
=============  ===========================  ====================================
``full``       R = Σᵢ vᵢ Pᵢ                 U · diag(S) · R · Vh
``diagonal``   R = diag(v @ P)              U · diag(S ∘ (v @ P)) · Vh
=============  ===========================  ====================================

``diagonal-unscaled`` is ``diagonal`` with another P, see ``projection``. Shapes: out, in = the
module's sides; r = rank; u = numel(v); n = number of modules.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams
from tinylora.adapters.adapter import position
from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
from tinylora.adapters.options import DeltaOptions, Formula, Numerics
from tinylora.adapters.upstream.artifact import Artifact
from tinylora.adapters.upstream.projection import draw_projections
from tinylora.adapters.upstream.resolve import doubts, resolve_options
from tinylora.svd.factor_store import FactorStore, factors_of
from tinylora.svd.factors import Factors
from tinylora.weights.quantized_weight import QuantizedWeight


def core_matrix(global_v: Tensor, projection: Tensor, formula: Formula) -> Tensor:
    """R ``[..., r, r]`` of one module or of many, differentiable in ``global_v`` ``[u]``.

    ``projection`` is ``[..., u, r, r]`` (full) or ``[..., u, r]`` (else), of the same dtype.
    """
    if formula != "full":
        return torch.diag_embed(global_v @ projection)
    shape = projection.shape[:-3] + projection.shape[-2:]
    return (global_v @ projection.flatten(-2)).view(shape)


def left_factor(U: Tensor, S: Tensor, R: Tensor, numerics: Numerics, formula: Formula) -> Tensor:
    """U · diag(S) · R, ``[out, r]``, in the dtype of the arguments.

    ``trainer`` numerics round R and each product to bf16, in the trainer's order for the formula.
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


class TinyLoRALinear(AdaptedLinear):
    """A linear module and its TinyLoRA update: y = base(x) + x Vhᵀ Rᵀ (U S)ᵀ.

    ``projection`` is P of this module, ``[u, r, r]`` (full) or ``[u, r]`` (else); ``trainer``
    numerics form ΔW in bf16 as the trainer did.
    """

    U: Tensor
    S: Tensor
    Vh: Tensor
    US: Tensor
    P: Tensor

    def __init__(
        self,
        base_layer: nn.Module,
        global_params: TinyLoRAGlobalParams,
        factors: Factors,
        projection: Tensor,
        formula: Formula,
        numerics: Numerics = "fp32",
    ) -> None:
        super().__init__(base_layer, global_params)
        self.formula = formula
        self.numerics = numerics
        device = self.weight.device
        U, S, Vh = (t.to(device).float() for t in bf16_factors(factors))
        P = projection.to(device).float()
        for name, tensor in {"U": U, "S": S, "Vh": Vh, "US": U * S, "P": P}.items():
            self.register_buffer(name, tensor, persistent=False)

    def matrices(self) -> tuple[Tensor, ...]:
        """U · diag(S), R and Vh."""
        return self.US, self.core(), self.Vh

    def delta(self) -> Tensor:
        """ΔW, fp32 ``[out, in]``, differentiable in the shared vector."""
        if self.numerics == "fp32":
            return super().delta()
        left = left_factor(self.U, self.S, self.core(), self.numerics, self.formula)
        return (left @ self.Vh).to(torch.bfloat16).float()

    def forward(self, x: Tensor) -> Tensor:
        """``base(x) + x ΔWᵀ`` of ``[..., in]``, in the dtype of ``base(x)``."""
        if self.numerics == "fp32":
            return super().forward(x)
        base: Tensor = self.base_layer(x)
        return base + (x.to(torch.bfloat16) @ self.delta().to(torch.bfloat16).T).to(base.dtype)

    def core(self) -> Tensor:
        """R, fp32 ``[r, r]``, differentiable in the shared vector."""
        vector = self._shared[0].global_v.to(self.P.device).float()
        return core_matrix(vector, self.P, self.formula)


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
