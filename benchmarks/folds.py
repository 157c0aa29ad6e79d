"""Folding a delta into 4-bit weights, beside a copy of the same bytes and beside bitsandbytes.

    python -m benchmarks.folds [--quick]

Writes results/bench/folds.md. GB/s are those of the packed bytes; memory is that of all tensors
that live at once beside the inputs, the result included.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

from benchmarks.live_memory import peak_bytes
from benchmarks.measure import Row, alternate, markdown
from benchmarks.weights import delta_of_size, trained_like
from exporter.quantize.requantize import preserve, recompute
from tinylora import LowRankDelta, QuantizedWeight

Shape = tuple[int, int]
Ways = dict[str, Callable[[], object]]
# About 1e-6 is a real artifact's; the others reach a few blocks, more, and all.
SIZES = (1e-6, 4e-4, 3e-3, 2e-2)


def timed(task: str, ways: Ways, packed: int, rounds: int) -> list[Row]:
    """Times, with the rate and the memory of each way beside the first one, the copy."""
    rows = alternate(task, ways, rounds)
    notes = []
    for row in rows:
        note = f"{packed / row.median / 1e9:.3g} GB/s, {row.median / rows[0].median:.3g} × the copy"
        if row is not rows[0]:
            peak = peak_bytes(ways[row.way])
            note += f", {peak / 1e6:.3g} MB ({peak / packed:.2g} × the bytes)"
        notes.append(replace(row, note=note))
    return notes


def fold_rows(shape: Shape, rounds: int) -> list[Row]:
    """One weight: each size of delta, and the way of PEFT."""
    weight = trained_like(shape)
    base = QuantizedWeight.quantize(weight)
    spare = torch.empty_like(base.data)
    ways: Ways = {"copy of the packed bytes (limit)": lambda: spare.copy_(base.data)}
    for size in SIZES:
        delta = delta_of_size(shape, size)
        ways[f"preserve, delta {size:.0e}: {moved(base, delta)}"] = lambda d=delta: preserve(
            base, d
        )
    delta = delta_of_size(shape, SIZES[-1])
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)

    def peft() -> object:
        merged = dequantize_4bit(packed, state).add_(delta.dense())
        return quantize_4bit(merged, quant_type="nf4", compress_statistics=True)

    ways["recompute (our quantization, bitsandbytes' bits)"] = lambda: recompute(base, delta)
    ways["dequantize, add, quantize with bitsandbytes, as PEFT"] = peft
    return timed(f"{shape[0]}×{shape[1]}", ways, base.data.nbytes, rounds)


def moved(base: QuantizedWeight, delta: LowRankDelta) -> str:
    """The share of codes that a delta moves, in words."""
    merged = preserve(base, delta)
    share = 0.0 if merged is base else 100 * float((merged.codes() != base.codes()).float().mean())
    return f"{share:.2g} % of the codes move"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("results/bench/folds.md"))
    args = parser.parse_args()
    shapes = [(128, 256)] if args.quick else [(2048, 2048), (11008, 2048), (2048, 11008)]
    rounds = 1 if args.quick else 5
    rows = [row for shape in shapes for row in fold_rows(shape, rounds)]
    command = "python -m benchmarks.folds" + (" --quick" if args.quick else "")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(markdown("Folding a delta into 4-bit weights", command, rows))
    print(args.out.read_text())


if __name__ == "__main__":
    main()
