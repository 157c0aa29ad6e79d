"""Fast singular factors beside exact ones

    python -m benchmarks.factors

One weight as trained weights are, and one of noise alone, whose singular values lie close together.
Errors against float64: of the singular values, relative; of the kept subspaces, the sine of the
largest principal angle. A gap near 0 leaves the subspace itself arbitrary.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import alternate, median, parser, table, write_page
from benchmarks.random_base import trained_like
from tinylora import Factors, exact_factors, fast_factors

RANK = 2
COLUMNS = ("weight", "way", "median s", "best s", "speed", "σ error", "subspace", "gap at the cut")
METHODS = {"exact: full gesdd, as the trainer": exact_factors, "fast: block Krylov": fast_factors}


class Result(NamedTuple):
    """One method on one weight: seconds of each round, and what the columns of the table say."""

    method: str
    seconds: list[float]
    values: float
    angle: float
    gap: float


def results(W: Tensor, rounds: int) -> Iterator[Result]:
    """Exact and fast on one weight, and how far they are from float64."""
    W = W.float()
    found: dict[str, Factors] = {}

    def keep(name: str, weight: Tensor) -> None:
        found[name] = METHODS[name](weight, RANK)

    for name in METHODS:
        keep(name, W[:64, :96])  # a warm-up; on the whole weight it would cost minutes
    times = alternate({name: partial(keep, name, W) for name in METHODS}, rounds, warm_up=False)
    left, S, right = reference(W)
    for name, seconds in times.items():
        factors = found[name]
        values = (factors.S.double() / S[:RANK] - 1).abs().max().item()
        angle = max(sine(factors.U, left), sine(factors.Vh.T, right))
        yield Result(name, seconds, values, angle, float(1 - S[RANK] / S[RANK - 1]))


def reference(W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leading U ``[out, r]``, all S, leading V ``[in, r]`` in float64, by numpy.

    From the Gram matrix of the shorter side, which is exact enough for the leading ones: its
    rounding is 1e-16 of σ₁².
    """
    wide = W.double().numpy() if W.shape[0] <= W.shape[1] else W.T.double().numpy()
    squares, vectors = np.linalg.eigh(wide @ wide.T)
    S = np.sqrt(np.maximum(squares[::-1], 0))
    short = vectors[:, ::-1][:, :RANK].copy()
    sides = [torch.from_numpy(side) for side in (short, wide.T @ short / S[:RANK])]
    left, right = sides if W.shape[0] <= W.shape[1] else reversed(sides)
    return left, torch.from_numpy(S.copy()), right


def sine(found: Tensor, expected: Tensor) -> float:
    """Sine of the largest principal angle between the columns' spans."""
    columns = torch.linalg.qr(found.double())[0]
    outside = columns - expected @ (expected.T @ columns)
    return float(torch.linalg.matrix_norm(outside, 2))


def rows(name: str, W: Tensor, rounds: int) -> Iterator[tuple[str, ...]]:
    """Both methods on one weight."""
    exact, fast = results(W, rounds)
    for one in (exact, fast):
        speed = median(exact.seconds) / median(one.seconds)
        yield (f"{W.shape[0]}×{W.shape[1]}, {name}", one.method, f"{median(one.seconds):.2f}",
               f"{min(one.seconds):.2f}", f"{speed:.1f} ×", f"{one.values:.1e}",
               f"{one.angle:.1e}", f"{one.gap:.1e}")  # fmt: skip


def main() -> None:
    args = parser(__doc__, "bench/factors.md", rounds=2).parse_args()
    shape = (2048, 11008)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.02
    lines = [
        *rows("as trained weights", trained_like(shape), args.rounds),
        *rows("flat, noise alone", noise.to(torch.bfloat16), 1),
    ]
    write_page(args.out, __doc__, table(COLUMNS, lines))


if __name__ == "__main__":
    main()
