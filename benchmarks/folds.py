"""Folding a delta into 4-bit weights

    python -m benchmarks.folds

Beside a copy of the same bytes and beside bitsandbytes, on the GPU where there is one; and the fast
factors of the weight. GB/s are those of the packed bytes. Each fold gets a weight whose scales are
not yet decoded.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from benchmarks.harness import DEVICE, alternate, parser, table, write_page
from benchmarks.random_base import delta_of_size, trained_like
from exporter.quantize.requantize import preserve, recompute
from tinylora import QuantizedWeight, fast_factors

# About 1e-6 is a real artifact's; the others reach a few blocks, more, and all.
SIZES = (1e-6, 4e-4, 3e-3, 2e-2)
COLUMNS = ("weight", "way", "median s", "best s", "GB/s", "× the copy")


def ways_of(shape: tuple[int, int]) -> tuple[int, dict[str, Callable[[], object]]]:
    """The packed bytes of a weight; the copy, each size of delta, and the way of PEFT."""
    weight = trained_like(shape, device=DEVICE)
    base = QuantizedWeight.quantize(weight)
    spare = torch.empty_like(base.data)
    ways: dict[str, Callable[[], object]] = {
        "copy of the packed bytes (limit)": lambda: spare.copy_(base.data)
    }
    for size in SIZES:
        delta = delta_of_size(shape, size, DEVICE)
        moved = (preserve(base, delta).codes() != base.codes()).float().mean()
        name = f"preserve, delta {size:.0e}: {100 * moved:.2g} % of the codes move"
        ways[name] = lambda delta=delta: preserve(replace(base), delta)
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)

    def peft() -> object:
        merged = dequantize_4bit(packed, state).add_(delta.dense())
        return quantize_4bit(merged, quant_type="nf4", compress_statistics=True)

    ours = "recompute (our quantization, bitsandbytes' bits)"
    ways[ours] = lambda: recompute(replace(base), delta)
    ways["dequantize, add, quantize with bitsandbytes, as PEFT"] = peft
    ways["fast factors of the dequantized weight"] = lambda: fast_factors(base.dequantize(), 2)
    return base.data.nbytes, ways


def rows(shape: tuple[int, int], rounds: int) -> Iterator[tuple[str, ...]]:
    """The lines of one weight."""
    packed, ways = ways_of(shape)
    found = alternate(ways, rounds)
    copy = median(next(iter(found.values())))
    for way, seconds in found.items():
        middle = median(seconds)
        times = (f"{middle:.4g}", f"{min(seconds):.4g}")
        yield (f"{shape[0]}×{shape[1]}", way, *times, f"{packed / middle / 1e9:.3g}",
               f"{middle / copy:.3g}")  # fmt: skip


def main() -> None:
    args = parser(__doc__, "bench/folds.md", rounds=5).parse_args()
    shapes = [(2048, 2048), (11008, 2048), (2048, 11008)]
    lines = [row for shape in shapes for row in rows(shape, args.rounds)]
    write_page(args.out, __doc__, table(COLUMNS, lines))


if __name__ == "__main__":
    main()
