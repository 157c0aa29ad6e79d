"""Spectra of a real base around the cut, and what two LAPACKs agree on there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor

from benchmarks.real.train import RANK
from exporter.compare.float32_model import load_base
from tinylora import Factors, FactorStore, target_modules
from tinylora.restoration.inject import readable_weight
from tinylora.svd.factor_store import factors_of
from tinylora.svd.factors import SPECTRUM_MARGIN, weight_digest, weight_matrix
from tinylora.workers import single_threaded

LOST = 1e-3
"""Sine of the angle between two decompositions' directions above which they are not the same."""


def other_lapack(W: Tensor, rank: int) -> Factors:
    """The same routine, gesdd in float32, of SciPy's LAPACK instead of torch's."""
    U, S, Vh = (torch.from_numpy(part.copy()) for part in scipy.linalg.svd(W.numpy(), False))
    spectrum = S[: rank + SPECTRUM_MARGIN].clone()
    kept = (U[:, :rank].contiguous(), S[:rank].clone(), Vh[:rank].contiguous(), spectrum)
    return Factors(*kept, "exact", f"SciPy {scipy.__version__}")


def spectra(base: Path, store: FactorStore, other: FactorStore) -> list[dict[str, Any]]:
    """One row a target module of the NF4 base; the other LAPACK's factors are kept in ``other``."""
    found = []
    with single_threaded():
        for name, module in target_modules(load_base(base)):
            weight = readable_weight(name, module)
            W = weight_matrix(weight)
            ours, theirs = factors_of(weight, RANK, "exact", store), other_lapack(W, RANK)
            other.put(weight_digest(weight), theirs)
            cosines = (ours.Vh.double() * theirs.Vh.double()).sum(1)
            found.append(
                {
                    "module": name,
                    "gap at cut": ours.gap_at_cut,
                    "inner gap": ours.smallest_inner_gap,
                    "share of energy": float(ours.S.square().sum() / W.square().sum()),
                    "sine": float((1 - cosines.square()).clamp_min(0).max().sqrt()),
                    "sign differs": bool((cosines.sign() != cosines.sign()[0]).any()),
                }
            )
    return found


def sentences(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of all modules, in words."""
    lost = [row["module"] for row in rows if row["sine"] > LOST]
    signs = sum(row["sign differs"] for row in rows)
    lines = [
        f"{len(rows)} modules, rank {RANK}, exact SVD of the NF4 base in float32, by torch's "
        f"LAPACK and by SciPy's."
    ]
    for name, meaning in (("gap at cut", "(σ₂ − σ₃)/σ₂"), ("inner gap", "(σ₁ − σ₂)/σ₁")):
        gaps = np.array([row[name] for row in rows])
        low, middle = np.quantile(gaps, (0.1, 0.5))
        lines.append(
            f"- {name} {meaning}: least {gaps.min():.2g}, 10 % below {low:.2g}, median "
            f"{middle:.2g}; below 0.01 in {(gaps < 0.01).sum()} modules, below 0.001 in "
            f"{(gaps < 0.001).sum()}."
        )
    energy = np.median([row["share of energy"] for row in rows])
    widest = max(row["sine"] for row in rows)
    lines += [
        f"- The two kept directions hold {energy:.1%} of a weight's squared norm (median).",
        f"- Directions apart by a sine above {LOST:g} (largest: {widest:.2g}): "
        f"{len(lost)} modules{': ' + ', '.join(lost) if lost else ''}.",
        f"- Relative sign of the two pairs differs in {signs} modules.",
    ]
    return "\n".join(lines)
