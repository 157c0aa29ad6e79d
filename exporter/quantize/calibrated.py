"""Codes that keep a module's output, rather than each of its weights.

``preserve`` loses a delta below half a step. On real inputs x, one code that moves a whole step can
stand for a small change spread over a row. With T = W + ΔW, Q what is stored and C = mean(x xᵀ),
this minimizes tr((Q − T)(C + λI)(Q − T)ᵀ) over the codes by cyclic coordinate descent: each element
goes to the code nearest to its optimum given all others. That is done on the base's own scales and
on those of ``recompute``; the lower of the two is taken. λ, a share of C's mean diagonal, keeps the
fit from following the texts into directions that they hardly show.

The objective is that of GPTQ (Frantar et al., 2022, arXiv:2210.17323), the descent that of
QuantEase (Behdin et al., 2023, arXiv:2309.01885).
"""

import torch
from torch import Tensor

from exporter.quantize.requantize import block_values, preserve, recompute
from tinylora import LowRankDelta, QuantizedWeight
from tinylora.svd.factors import weight_matrix

SWEEPS = 6
DAMPING = 0.3


def calibrated(base: QuantizedWeight, delta: LowRankDelta, moment: Tensor) -> QuantizedWeight:
    """Choose codes for W + ΔW by their effect on the module's output, with C float32 ``[in, in]``.

    Returns:
        ``base`` itself where no code moves, as for a zero delta; otherwise codes on the base's
        scales or on new ones, whichever are nearer.
    """
    damping = DAMPING * moment.diagonal().mean()
    metric = moment + torch.diag(damping.expand(len(moment)))
    wanted = weight_matrix(base) + delta.dense()
    kept, miss = _descend(preserve(base, delta), wanted, metric)
    if torch.equal(kept.codes(), base.codes()):
        kept = base
    if miss == 0:
        return kept
    fresh, miss_of_fresh = _descend(recompute(base, delta), wanted, metric)
    return fresh if miss_of_fresh < miss else kept


def _descend(
    start: QuantizedWeight, wanted: Tensor, metric: Tensor
) -> tuple[QuantizedWeight, float]:
    """The weight after all sweeps, and tr((Q − T)(C + λI)(Q − T)ᵀ)."""
    values = block_values(start)
    codes = start.codes().view(start.shape)
    stored = weight_matrix(start).clone()
    pull = (stored - wanted) @ metric
    for _ in range(SWEEPS):
        if not _sweep(stored, codes, pull, metric, values, start.blocksize):
            break
    miss = float((pull.double() * (stored - wanted).double()).sum())
    return start.with_codes(codes.reshape(-1)), miss


def _sweep(
    stored: Tensor, codes: Tensor, pull: Tensor, metric: Tensor, values: Tensor, blocksize: int
) -> bool:
    """Every column of Q once, in place, with ``pull`` = (Q − T)·metric; whether any code moved."""
    out, columns = stored.shape
    first = torch.arange(out, device=stored.device) * columns
    moved = False
    for column in range(columns):
        choices = values[(first + column) // blocksize]
        held = stored[:, column]
        wanted = held - pull[:, column] / metric[column, column]
        best = (choices - wanted.unsqueeze(1)).abs().argmin(dim=1, keepdim=True)
        found = choices.gather(1, best).squeeze(1)
        rows = ((found - wanted).abs() < (held - wanted).abs()).nonzero().squeeze(1)
        if not rows.numel():
            continue
        moved = True
        pull[rows] += (found[rows] - held[rows]).unsqueeze(1) * metric[column]
        stored[rows, column] = found[rows]
        codes[rows, column] = best[rows, 0].to(codes.dtype)
    return moved
