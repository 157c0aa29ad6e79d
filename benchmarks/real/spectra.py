"""Spectra of a real base around the cut, and what two LAPACKs agree on there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import scipy
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.real.train import RANK
from exporter.compare.float32_model import load_base
from tinylora import Factors, FactorStore, target_modules
from tinylora.restoration import readable_weight
from tinylora.svd.factor_store import factors_of
from tinylora.svd.factors import SPECTRUM_MARGIN, weight_digest, weight_matrix
from tinylora.workers import single_threaded

LOST = 1e-3  # distance of unit vectors above which they are not the same direction


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
            W, digest = weight_matrix(weight), weight_digest(weight)
            ours = factors_of(weight, RANK, "exact", store)
            theirs = other_lapack(W, RANK)
            other.put(digest, theirs)
            one, two = (normalize(factors.Vh.double()) for factors in (ours, theirs))
            signs = (one * two).sum(1, keepdim=True).sign()
            found.append({
                "module": name,
                "gap at cut": ours.gap_at_cut,
                "inner gap": ours.smallest_inner_gap,
                "share of energy": float(ours.S.square().sum() / W.square().sum()),
                "turned": float((one - signs * two).norm(dim=1).max()),
                "sign differs": bool((signs != signs[0]).any()),
            })  # fmt: skip
    return found


def sentences(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of all modules, in words."""
    found = pd.DataFrame(rows)
    lines = [
        f"{len(found)} modules, rank {RANK}, exact SVD of the NF4 base in float32, by torch's "
        f"LAPACK and by SciPy's.\n"
    ]
    for name, meaning in (("gap at cut", "(σ₂ − σ₃)/σ₂"), ("inner gap", "(σ₁ − σ₂)/σ₁")):
        gaps = found[name]
        lines.append(
            f"- {name} {meaning}: least {gaps.min():.2g}, 10 % below {gaps.quantile(0.1):.2g}, "
            f"median {gaps.median():.2g}; below 0.01 in {(gaps < 0.01).sum()} modules, below "
            f"0.001 in {(gaps < 0.001).sum()}."
        )
    energy, turned = found["share of energy"].median(), found["turned"]
    lines += [
        f"- The two kept directions hold {energy:.1%} of a weight's squared norm (median).",
        f"- The libraries' right singular vectors are at most {turned.max():.1g} apart; "
        f"above {LOST:g} in {(turned > LOST).sum()} modules.",
        f"- The relative sign of the two pairs differs in {found['sign differs'].sum()} modules.",
    ]
    return "\n".join(lines)
