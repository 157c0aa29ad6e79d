"""How far one model's next-token predictions are from another's.

With p the next-token distribution of the reference and q another model's, on the same tokens::

    KL(p‖q) = Σ p (ln p − ln q)                          nats, one number a token
    retention = 1 − mean KL(reference‖model) / mean KL(reference‖base)

1: the model predicts what the reference predicts; 0: it is as far from it as the base is. A floor
stands beside them: the mean KL of the reference from itself, run again in another way. A base that
is no farther than that shows no effect that could be kept or lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_POSITIONS_AT_ONCE = 64


@dataclass(frozen=True)
class KLSummary:
    """Mean, median, 99th percentile and maximum of the KL of so many tokens, nats."""

    tokens: int
    mean: float
    p50: float
    p99: float
    largest: float


def kl_divergence(reference: Tensor, other: Tensor) -> Tensor:
    """KL(reference‖other) in nats, float64 ``[positions]``, of logits ``[positions, vocab]``."""
    parts = []
    for one, two in zip(
        torch.split(reference, _POSITIONS_AT_ONCE),
        torch.split(other, _POSITIONS_AT_ONCE),
        strict=True,
    ):
        p, q = one.double().log_softmax(dim=1), two.double().log_softmax(dim=1)
        parts.append((p.exp() * (p - q)).sum(dim=1).clamp_min(0))
    return torch.cat(parts)


def summarize_kl(kl: Sequence[float]) -> KLSummary:
    """The numbers that stand for one or more tokens.

    >>> summarize_kl([0.0, 1.0, 5.0])
    KLSummary(tokens=3, mean=2.0, p50=1.0, p99=4.92, largest=5.0)
    """
    values = np.asarray(kl, dtype=np.float64)
    p50, p99 = (float(value) for value in np.quantile(values, (0.5, 0.99)))
    return KLSummary(values.size, float(values.mean()), p50, p99, float(values.max()))


def retention(divergence: float, effect: float, floor: float) -> float | None:
    """1 − divergence/effect; None where the effect does not rise above the floor.

    >>> retention(0.25, 1.0, 1e-9), retention(0.25, 1e-9, 1e-9)
    (0.75, None)
    """
    return 1 - divergence / effect if effect > floor else None
