"""Fast singular factors beside exact ones

    python -m benchmarks.factors

One weight as trained weights are, and one of noise alone, whose singular values lie close together.
The fast ones are computed on the GPU where there is one.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.harness import DEVICE, alternate, median, parser, table, write_page
from benchmarks.random_base import trained_like
from tinylora import exact_factors, fast_factors

RANK = 2
COLUMNS = ("weight", "way", "median s", "best s", "speed")
METHODS = {"exact: full gesdd, as the trainer": exact_factors, "fast: block Krylov": fast_factors}


def rows(name: str, W: Tensor, rounds: int) -> Iterator[tuple[str, ...]]:
    """Both methods on one weight."""
    W = W.float().to(DEVICE)
    for method in METHODS.values():
        method(W[:64, :96], RANK)  # a warm-up; on the whole weight it would cost minutes
    ways = {way: partial(method, W, RANK) for way, method in METHODS.items()}
    found = alternate(ways, rounds, warm_up=False)
    exact = median(next(iter(found.values())))
    for way, seconds in found.items():
        took = median(seconds)
        yield (f"{W.shape[0]}×{W.shape[1]}, {name}", way, f"{took:.2f}", f"{min(seconds):.2f}",
               f"{exact / took:.1f} ×")  # fmt: skip


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
