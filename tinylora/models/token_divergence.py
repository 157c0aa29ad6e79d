"""How far one model's next-token predictions are from another's.

With p the next-token distribution of the reference and q another model's, on the same tokens::

    KL(p‖q) = Σ p (ln p − ln q)                          nats, one number a token
    retention = 1 − mean KL(reference‖model) / mean KL(reference‖base)

1: the model predicts what the reference predicts; 0: it is as far from it as the base is.

A floor stands beside them: the largest mean KL of the reference from the same function by other
arithmetic (other batches; the adapter folded into float32 weights). For small changes √KL is a
distance. Each model is computed within √floor of the function that its weights define, so the true
distance of two models lies within 2 √floor of the measured one, and what lies within that of the
reference cannot be told from it::

    lost ≥ (max(0, √KL(model) − 2√floor) / (√KL(base) + 2√floor))²
    lost ≤ ((√KL(model) + 2√floor) / (√KL(base) − 2√floor))²
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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


def kl_divergence(reference: "Tensor", other: "Tensor") -> "Tensor":
    """KL(reference‖other) in nats, float64 ``[positions]``, of logits ``[positions, vocab]``."""
    import torch  # here only: tables of finished runs are made without it

    parts = []
    for one, two in zip(
        torch.split(reference, _POSITIONS_AT_ONCE),
        torch.split(other, _POSITIONS_AT_ONCE),
        strict=True,
    ):
        p, q = one.double().log_softmax(dim=1), two.double().log_softmax(dim=1)
        parts.append((p.exp() * (p - q)).sum(dim=1).clamp_min(0))
    return torch.cat(parts)


def shift_agreement(
    reference: "Tensor", other: "Tensor", base: "Tensor"
) -> "tuple[Tensor, Tensor]":
    """How alike two models move the logits of a base, ``[positions, vocab]`` each.

    Logits count up to a constant, so the mean of a position's shifts is taken off.

    Returns:
        Cosine of the two shifts of each position, 0 where one is nothing, and the share of logits
        that move the same way; float64 ``[positions]`` each.
    """
    import torch

    cosines, signs = [], []
    for parts in zip(
        *(torch.split(x, _POSITIONS_AT_ONCE) for x in (reference, other, base)), strict=True
    ):
        one, two, start = (part.double() for part in parts)
        shifts = [x - start for x in (one, two)]
        wanted, found = (shift - shift.mean(dim=1, keepdim=True) for shift in shifts)
        cosines.append(torch.cosine_similarity(wanted, found, dim=1, eps=0))
        signs.append((wanted.sign() == found.sign()).double().mean(dim=1))
    return torch.cat(cosines).nan_to_num(0.0), torch.cat(signs)


def summarize_kl(kl: Sequence[float]) -> KLSummary:
    """The numbers that stand for one or more tokens.

    >>> summarize_kl([0.0, 1.0, 5.0])
    KLSummary(tokens=3, mean=2.0, p50=1.0, p99=4.92, largest=5.0)
    """
    values = np.asarray(kl, dtype=np.float64)
    p50, p99 = (float(value) for value in np.quantile(values, (0.5, 0.99)))
    return KLSummary(values.size, float(values.mean()), p50, p99, float(values.max()))


@dataclass(frozen=True)
class Kept:
    """How much of the adapter's effect a model kept.

    Attributes:
        retention: 1 − KL(reference‖model)/KL(reference‖base), as measured.
        at_least: What it kept at least, by arithmetic alone; below 0 where that says nothing.
        loss_seen: Whether the model is farther from the reference than an equal one can be.
    """

    retention: float
    at_least: float
    loss_seen: bool


def kept(divergence: float, effect: float, floor: float) -> Kept | None:
    """How much was kept, of mean KLs; None where the effect or its loss could not be seen.

    >>> kept(0.25, 1.0, 0.0), kept(1e-4, 1.0, 1e-4).at_least > 0.99, kept(1e-9, 4e-9, 1e-9)
    (Kept(retention=0.75, at_least=0.75, loss_seen=True), True, None)
    """
    if not visible(effect, floor):
        return None
    own, base, blur = np.sqrt(divergence), np.sqrt(effect), 2 * np.sqrt(floor)
    at_least, loss_seen = 1 - ((own + blur) / (base - blur)) ** 2, bool(own > blur)
    if not loss_seen and at_least <= 0:
        return None
    return Kept(1 - divergence / effect, float(at_least), loss_seen)


def visible(effect: float, floor: float) -> bool:
    """Whether a mean KL is more than two equal models can be apart by arithmetic alone."""
    return bool(np.sqrt(effect) > 2 * np.sqrt(floor))


def as_if_kept(retention: float) -> float:
    """The share of the adapter's change whose loss alone would give this retention.

    KL grows with the square of a small change: a model that has the share a of the change is
    (1 − a)² of the effect away, so a = 1 − √(1 − retention).

    >>> round(as_if_kept(0.3), 3), as_if_kept(1.0), as_if_kept(-3.0)
    (0.163, 1.0, -1.0)
    """
    return float(1 - np.sqrt(1 - min(retention, 1.0)))
