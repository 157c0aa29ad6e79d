"""Singular factors: the exporter's exact path beside bare SVDs, the fast path beside the exact.

    python -m benchmarks.factors [--quick]

Exact: ``factors_of`` with a store, on as many modules at once as the exporter works on, beside the
same number of bare ``torch.linalg.svd`` calls on as many threads (the limit), and beside one module
after another with torch's own threads (upstream's way). Fast: one weight, alone, with errors
against float64. Writes results/bench/factors.md.
"""

import argparse
import math
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Row, alternate, at_least, machine, word
from benchmarks.weights import trained_like
from tinylora import Factors, FactorStore, exact_factors, fast_factors
from tinylora.svd.factor_store import factors_of
from tinylora.workers import in_order, single_threaded, workers_for

Shape = tuple[int, int]
RANK = 2
OURS, BARE, UPSTREAM = "ours: store, workers", "bare svd on all cores (limit)", "one after another"
EXACT, FAST = "exact: full gesdd, as the trainer", "fast: block Krylov"
OF_BARE, OF_EXACT, VALUES, ANGLE = 0.9, 15.0, 1e-5, 1e-3


def flat(shape: Shape) -> Tensor:
    """Noise alone: its singular values lie close together."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return (noise * 0.02).to(torch.bfloat16)


def layers(hidden: int, kv: int, intermediate: int, count: int) -> list[Shape]:
    """Shapes ``(out, in)`` of the target modules of some layers, in a model's order."""
    attention = [(hidden, hidden), (kv, hidden), (kv, hidden), (hidden, hidden)]
    mlp = [(intermediate, hidden), (intermediate, hidden), (hidden, intermediate)]
    return (attention + mlp) * count


def parallel_rows(task: str, shapes: list[Shape], rounds: int) -> list[Row]:
    """The exact factors of several modules."""
    weights = [trained_like(shape, seed) for seed, shape in enumerate(shapes)]
    largest = max(map(math.prod, shapes))
    threads = torch.get_num_threads()

    def ours() -> None:
        with tempfile.TemporaryDirectory() as directory, single_threaded():
            store = FactorStore(directory)
            workers = workers_for(threads, largest)
            made = in_order(lambda W: factors_of(W, RANK, "exact", store), weights, workers)
            for _ in made:
                pass

    def bare() -> None:
        with single_threaded(), ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(_svd, weights):
                pass

    def upstream() -> None:
        for W in weights:
            _svd(W)

    ways = {BARE: bare, OURS: ours, UPSTREAM: upstream}
    return alternate(task, ways, rounds)


def _svd(W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The call alone, cut to the rank; what is cut away is freed."""
    U, S, Vh = torch.linalg.svd(W.float(), full_matrices=False)
    return U[:, :RANK].clone(), S[:RANK].clone(), Vh[:RANK].clone()


@dataclass(frozen=True)
class Alone:
    """One method on one weight.

    Attributes:
        spectrum: What the weight's singular values are like.
        shape: The weight's.
        row: Way and seconds.
        values: Largest relative error of the kept singular values.
        angle: Sine of the largest principal angle to the kept subspaces, left or right.
        gap: (σᵣ − σᵣ₊₁)/σᵣ of the weight.
    """

    spectrum: str
    shape: Shape
    row: Row
    values: float
    angle: float
    gap: float


def alone_rows(spectrum: str, W: Tensor, rounds: int) -> list[Alone]:
    """Exact and fast on one weight, and how far they are from float64."""
    W = W.float()
    found: dict[str, Factors] = {}

    def keep(way: str, method: Callable[[Tensor, int], Factors], weight: Tensor) -> None:
        found[way] = method(weight, RANK)

    for way, method in METHODS.items():
        keep(way, method, W[:64, :96])  # a warm-up; on the whole weight it would cost minutes
    # the inner lambda's defaults: one function for each method
    ways = {way: lambda w=way, m=method: keep(w, m, W) for way, method in METHODS.items()}
    rows = alternate("", ways, rounds, warm_up=False)
    shape = (W.shape[0], W.shape[1])
    left, S, right = reference(W)
    gap = float((S[RANK - 1] - S[RANK]) / S[RANK - 1])
    lines = []
    for row in rows:
        factors = found[row.way]
        values = (factors.S.double() / S[:RANK] - 1).abs().max().item()
        angle = max(sine(factors.U, left), sine(factors.Vh.T, right))
        lines.append(Alone(spectrum, shape, row, values, angle, gap))
    return lines


METHODS: dict[str, Callable[[Tensor, int], Factors]] = {EXACT: exact_factors, FAST: fast_factors}


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


def sine(found: Tensor, wanted: Tensor) -> float:
    """Sine of the largest principal angle between the columns' spans."""
    columns = torch.linalg.qr(found.double())[0]
    outside = columns - wanted @ (wanted.T @ columns)
    return float(torch.linalg.matrix_norm(outside, 2))


def report(parallel: list[Row], alone: list[Alone], largest: int, command: str) -> str:
    """Both tables, and which of the wanted ratios hold."""
    workers = workers_for(torch.get_num_threads(), largest)
    lines = [
        "# Singular factors on the CPU",
        "",
        f"`{command}` on {machine()}.",
        "",
        "## Exact, several modules",
        "",
        f"Ours works on {workers} at once here, each on one thread, which holds workspace below "
        "1.1 GB whatever the number of cores and modules (one module at least).",
        "",
        "| task | way | median s | best s | rate, of the limit's |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    limit = next(row for row in parallel if row.way == BARE)
    lines += [
        f"| {row.task} | {row.way} | {row.median:.2f} | {row.best:.2f} "
        f"| {limit.median / row.median:.2f} |"
        for row in parallel
    ]
    ours = next(row for row in parallel if row.way == OURS)
    upstream = next(row for row in parallel if row.way == UPSTREAM)
    share, gain = limit.median / ours.median, upstream.median / ours.median
    lines += [
        "",
        f"{share:.2f} of the limit's rate ({at_least(share, OF_BARE)}); {gain:.2f} × the ",
    ]
    lines[-1] += "rate of one module after another."
    lines += [
        "",
        "## Fast beside exact, one module",
        "",
        "Errors against float64: of the singular values, relative; of the kept subspaces, the sine "
        "of the largest principal angle. A gap near 0 leaves the subspace itself arbitrary.",
        "",
        "| weight | way | median s | best s | σ error | subspace | gap at the cut |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {a.shape[0]}×{a.shape[1]}, {a.spectrum} | {a.row.way} | {a.row.median:.2f} "
        f"| {a.row.best:.2f} | {a.values:.1e} | {a.angle:.1e} | {a.gap:.1e} |"
        for a in alone
    ]
    return "\n".join([*lines, "", *verdicts(alone)]) + "\n"


def verdicts(alone: list[Alone]) -> list[str]:
    """A sentence for each weight."""
    found = []
    for exact, fast in zip(alone[::2], alone[1::2], strict=True):
        gain = exact.row.median / fast.row.median
        found.append(
            f"- {fast.spectrum}: {gain:.1f} × faster ({at_least(gain, OF_EXACT)}), singular "
            f"values to {fast.values:.0e} ({word(fast.values <= VALUES)}: ≤ {VALUES:g}), "
            f"subspace to {fast.angle:.0e} "
            f"({word(fast.angle <= ANGLE)}: ≤ {ANGLE:g} where gaps allow)."
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that it runs")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/bench/factors.md"))
    args = parser.parse_args()
    sides, shape = ((896, 128, 4864, 3), (2048, 11008))
    if args.quick:
        sides, shape = (64, 32, 176, 2), (256, 512)
    shapes = layers(*sides)
    task = f"{len(shapes)} modules of {sides[3]} layers, largest {max(shapes)}"
    parallel = parallel_rows(task, shapes, args.rounds)
    alone = alone_rows("as trained weights", trained_like(shape), args.rounds)
    alone += alone_rows("flat, noise alone", flat(shape), rounds=1)
    command = f"python -m benchmarks.factors --rounds {args.rounds}"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    command += " --quick" if args.quick else ""
    text = report(parallel, alone, max(map(math.prod, shapes)), command)
    args.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
