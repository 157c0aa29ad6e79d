"""How much of the delta the stored weights hold.

With E = stored − base, both as the forward pass sees them (dequantized, rounded to their dtype),
and Δ the wanted delta, over the elements of a module or of all modules:

===============  ==========================  ======================================================
capture          ⟨E,Δ⟩ / ⟨Δ,Δ⟩               1: all of it, 0: nothing
residual         ‖E − Δ‖ / ‖Δ‖               0: perfect, 1: as good as the base, above: worse
noise            ‖E − capture·Δ‖ / ‖Δ‖       what is orthogonal to Δ
residual_bound   least residual              that codes on the base's scales can reach, if 4-bit
===============  ==========================  ======================================================

All four are None where Δ = 0. Sums are float64.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tinylora import Factors, LowRankDelta

Verdict = Literal["empty", "kept", "partly kept", "lost"]

KEPT_RESIDUAL = 0.1
LOST_RESIDUAL = 0.9
LOST_CAPTURE = 0.1


@dataclass(frozen=True)
class ErrorSums:
    """Sums over the elements of one or more modules.

    Attributes:
        delta: ⟨Δ,Δ⟩.
        cross: ⟨E,Δ⟩.
        miss: ‖E − Δ‖².
        bound: Least ‖E − Δ‖² on the base's scales; None where codes are not chosen.
    """

    delta: float
    cross: float
    miss: float
    bound: float | None = None

    @property
    def capture(self) -> float | None:
        """⟨E,Δ⟩/⟨Δ,Δ⟩, None for Δ = 0."""
        return self.cross / self.delta if self.delta > 0 else None

    @property
    def residual(self) -> float | None:
        """‖E − Δ‖/‖Δ‖, None for Δ = 0."""
        return math.sqrt(self.miss / self.delta) if self.delta > 0 else None

    @property
    def noise(self) -> float | None:
        """Part of E orthogonal to Δ, relative to ‖Δ‖; None for Δ = 0."""
        if self.delta <= 0:
            return None
        # ‖E − Δ‖² = ‖noise‖² + (1 − capture)²‖Δ‖², free of the cancellation in ‖E‖² − capture²
        along = (1 - self.cross / self.delta) ** 2
        return math.sqrt(max(self.miss / self.delta - along, 0.0))

    @property
    def residual_bound(self) -> float | None:
        """Least residual that any choice of codes on the base's scales can reach."""
        if self.delta <= 0 or self.bound is None:
            return None
        return math.sqrt(self.bound / self.delta)


@dataclass(frozen=True)
class Spectrum:
    """Singular values around the cut; a tiny gap means that nobody can reproduce those directions.

    Attributes:
        values: Leading singular values of the base's weight, some beyond the rank r.
        gap_at_cut: (σᵣ − σᵣ₊₁)/σᵣ, None where σᵣ = 0.
        smallest_inner_gap: Least (σₖ − σₖ₊₁)/σₖ for k < r, None where undefined.
    """

    values: tuple[float, ...]
    gap_at_cut: float | None
    smallest_inner_gap: float | None
    lapack: str


@dataclass(frozen=True)
class ModuleFidelity:
    """What one target module kept.

    Attributes:
        codes_moved: 4-bit codes that differ from the base's; None for other formats.
        scales_changed: Block scales that differ from the base's; None for other formats.
        bytes: Bytes stored for this module's weight or adapter pair.
        spectrum: None where the adapter stores its own factors.
    """

    module: str
    shape: tuple[int, int]
    sums: ErrorSums
    codes_moved: int | None
    scales_changed: int | None
    bytes: int
    spectrum: Spectrum | None


@dataclass(frozen=True)
class FidelityReport:
    """All modules of an export, in the order of the random stream."""

    modules: tuple[ModuleFidelity, ...]
    bytes: int

    @property
    def total(self) -> ErrorSums:
        """Sums over all modules."""
        sums = [module.sums for module in self.modules]
        bounds = [s.bound for s in sums if s.bound is not None]
        return ErrorSums(
            delta=math.fsum(s.delta for s in sums),
            cross=math.fsum(s.cross for s in sums),
            miss=math.fsum(s.miss for s in sums),
            bound=math.fsum(bounds) if bounds and len(bounds) == len(sums) else None,
        )

    @property
    def verdict(self) -> Verdict:
        """In a word, whether the stored weights hold the delta."""
        total = self.total
        if total.capture is None or total.residual is None:
            return "empty"
        if total.residual <= KEPT_RESIDUAL:
            return "kept"
        if total.capture < LOST_CAPTURE or total.residual >= LOST_RESIDUAL:
            return "lost"
        return "partly kept"

    def as_dict(self) -> dict[str, Any]:
        """The content of ``fidelity.json``; floats to nine digits."""
        total: dict[str, Any] = {
            "verdict": self.verdict,
            **_measures(self.total),
            "codes_moved": _sum([m.codes_moved for m in self.modules]),
            "scales_changed": _sum([m.scales_changed for m in self.modules]),
            "bytes": self.bytes,
            "modules": len(self.modules),
        }
        if any(module.spectrum is None for module in self.modules):
            known = "stored in the adapter: no weight was factorized, no spectrum is known"
            total["factors"] = known
        return {"total": total, "modules": [_module_dict(m) for m in self.modules]}


def spectrum_of(factors: Factors | None) -> Spectrum | None:
    """Singular values and gaps of a module's factors; None where none were computed."""
    if factors is None:
        return None
    values = tuple(float(x) for x in factors.spectrum.tolist())
    gaps = factors.gap_at_cut, factors.smallest_inner_gap if factors.rank > 1 else math.nan
    cut, inner = (None if math.isnan(gap) else gap for gap in gaps)
    return Spectrum(values, cut, inner, factors.lapack)


def sums_over(pieces: Iterable[tuple[Tensor, Tensor]]) -> ErrorSums:
    """Sums for one module; ``pieces`` are E and Δ of some rows at a time, each ``[rows, in]``."""
    found: list[Tensor] = []
    for error, delta in pieces:
        e64, d64 = error.reshape(-1).double(), delta.reshape(-1).double()
        missed = e64 - d64
        found += [torch.dot(d64, d64), torch.dot(e64, d64), torch.dot(missed, missed)]
    delta_sum, cross, miss = map(math.fsum, torch.stack(found).view(-1, 3).T.tolist())
    return ErrorSums(delta_sum, cross, miss)


def sums_without_change(delta: LowRankDelta) -> ErrorSums:
    """Sums for a module whose stored weight is the base's, E = 0."""
    if delta.rounding is None:
        norm = delta.squared_norm()
    else:
        norm = sums_over((torch.zeros_like(d), d) for _, d in delta.pieces()).delta
    return ErrorSums(norm, 0.0, norm)


def rounded(value: float | None, digits: int = 9) -> float | None:
    """Nine significant digits: more than is meant, fewer than differ between machines."""
    return None if value is None else float(f"{value:.{digits}g}")


def _measures(sums: ErrorSums) -> dict[str, float | None]:
    return {
        "capture": rounded(sums.capture),
        "residual": rounded(sums.residual),
        "noise": rounded(sums.noise),
        "residual_bound": rounded(sums.residual_bound),
        "delta_norm": rounded(math.sqrt(sums.delta)),
    }


def _module_dict(module: ModuleFidelity) -> dict[str, Any]:
    spectrum = module.spectrum
    return {
        "module": module.module,
        "shape": list(module.shape),
        **_measures(module.sums),
        "codes_moved": module.codes_moved,
        "scales_changed": module.scales_changed,
        "bytes": module.bytes,
        "gap_at_cut": rounded(spectrum.gap_at_cut) if spectrum else None,
        "smallest_inner_gap": rounded(spectrum.smallest_inner_gap) if spectrum else None,
        "spectrum": [rounded(value) for value in spectrum.values] if spectrum else None,
    }


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
