"""What a GPU does: its stream, folds and factors of a 3B model, each beside its limit.

    python -m benchmarks.gpu [--quick] [--record-golden]

Writes results/gpu/stream.md, folds.md and factors.md; ``--record-golden`` also writes the device's
random numbers to tests/tinylora/golden_device_stream.json. Times are those between two CUDA events.
Without a device only ``--quick`` runs: small shapes on the CPU, to see that everything works.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import device_stream
from benchmarks.weights import LAYER_3B, LAYERS_3B, delta_of_size, quantized, trained_like
from exporter.quantize.requantize import preserve
from tinylora import QuantizedWeight, fast_factors

# Entries of a real artifact's delta, and of larger ones.
SIZES = (1e-6, 4e-4, 3e-3)
FOLD_LIMIT, FACTOR_LIMIT_SECONDS = 3.0, 60.0
QUICK_LAYER = ((64, 64), (64, 64), (32, 64), (192, 64), (64, 192))


@dataclass(frozen=True)
class Setting:
    """Where and how much: the device, a layer's shapes, their number, repetitions."""

    device: str
    layer: Sequence[tuple[int, int]]
    layers: int
    rounds: int
    copied_bytes: int

    @property
    def name(self) -> str:
        """The device, the versions."""
        where = "CPU, small shapes" if self.device == "cpu" else torch.cuda.get_device_name()
        return f"{where}, torch {torch.__version__}, CUDA {torch.version.cuda}"


def seconds(work: Callable[[], object], setting: Setting, rounds: int | None = None) -> float:
    """Median time of some work on the device, after one round to warm up."""
    work()
    found = []
    for _ in range(rounds or setting.rounds):
        if setting.device == "cpu":
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
            continue
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        work()
        last.record()
        torch.cuda.synchronize()
        found.append(first.elapsed_time(last) / 1000)
    return statistics.median(found)


def bandwidth(setting: Setting) -> float:
    """Bytes a second of a large copy, read and written bytes together."""
    source = torch.ones(setting.copied_bytes, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), setting)


def peak_memory(work: Callable[[], object], setting: Setting) -> str:
    """Most memory that the device held beyond what it held before, in words."""
    if setting.device == "cpu":
        return "-"
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return f"{(torch.cuda.max_memory_allocated() - before) / 1e6:.4g} MB"


def model(setting: Setting) -> list[QuantizedWeight]:
    """The 4-bit weights of all layers, each its own."""
    return [
        quantized(trained_like(shape, seed, setting.device))
        for seed in range(setting.layers)
        for shape in setting.layer
    ]


def folds(setting: Setting, bases: Sequence[QuantizedWeight]) -> str:
    """All modules folded, beside moving their packed bytes."""
    packed = sum(base.data.nbytes for base in bases)
    rate = bandwidth(setting)
    limit = 2 * packed / rate
    spare = [torch.empty_like(base.data) for base in bases]
    copied = seconds(lambda: torch._foreach_copy_(spare, [b.data for b in bases]), setting)
    lines = [
        f"Copy bandwidth {rate / 1e9:.4g} GB/s (read and written); {len(bases)} modules with "
        f"{packed / 1e9:.4g} GB of packed bytes. Limit of a fold where nothing moves: "
        f"{FOLD_LIMIT:g} × moving them.",
        "",
        "| way | codes moved | ms | × moving the bytes | memory |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| moving the packed bytes, at that bandwidth | | {limit * 1e3:.4g} | 1 | |",
        f"| copying them, module by module | | {copied * 1e3:.4g} | {copied / limit:.3g} | |",
    ]
    for size in SIZES:
        shapes = {base.shape: delta_of_size(base.shape, size, setting.device) for base in bases}
        deltas = [shapes[base.shape] for base in bases]

        def fold(deltas: list = deltas) -> list[QuantizedWeight]:
            return [preserve(b, d) for b, d in zip(bases, deltas, strict=True)]

        share = moved_share(bases, fold())
        took = seconds(fold, setting)
        lines.append(
            f"| fold, delta {size:.0e} | {100 * share:.2g} % | {took * 1e3:.4g} | "
            f"{took / limit:.3g} | {peak_memory(fold, setting)} |"
        )
    return "\n".join(lines)


def moved_share(bases: Sequence[QuantizedWeight], merged: Sequence[QuantizedWeight]) -> float:
    """Share of all codes that differ."""
    pairs = [(b, m) for b, m in zip(bases, merged, strict=True) if m is not b]
    moved = sum(int((base.codes() != found.codes()).sum()) for base, found in pairs)
    return moved / sum(base.numel for base in bases)


def factors(setting: Setting, bases: Sequence[QuantizedWeight]) -> str:
    """Fast factors of all modules, dequantizing included."""
    lines = [
        f"Limit: {FACTOR_LIMIT_SECONDS:g} s for all modules.",
        "",
        "| modules | number | s |",
        "| --- | ---: | ---: |",
    ]
    total = 0.0
    for shape in dict.fromkeys(setting.layer):
        alike = [base for base in bases if base.shape == shape]
        took = seconds(lambda alike=alike: [fast_factors(b.dequantize(), 2) for b in alike],
                       setting, rounds=1)  # fmt: skip
        lines.append(f"| {shape[0]}×{shape[1]} | {len(alike)} | {took:.4g} |")
        total += took
    return "\n".join([*lines, f"| all | {len(bases)} | {total:.4g} |"])


def stream() -> str:
    """Values of the device's stream that differ from the emulation."""
    lines = ["| shape | seed | values | differ | unexplained |", "| --- | " + "---: | " * 4]
    for shape in device_stream.SHAPES:
        for seed in device_stream.SEEDS:
            drawn = device_stream.device_draws(shape, seed)
            found = device_stream.differing(drawn, device_stream.emulated_draws(shape, seed))
            lines.append(f"| {shape} | {seed} | {drawn.numel()} | {found[0]} | {found[1]} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes, on the CPU too")
    parser.add_argument("--record-golden", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    args = parser.parse_args(arguments)
    has_device = torch.cuda.is_available()
    if not has_device and (args.record_golden or not args.quick):
        parser.error("no CUDA device; only --quick runs without one")
    device = "cuda" if has_device else "cpu"
    setting = (
        Setting(device, QUICK_LAYER, 2, 2, 1 << 20)
        if args.quick
        else Setting(device, LAYER_3B, LAYERS_3B, 7, 1 << 30)
    )
    bases = model(setting)
    parts = {"folds": folds(setting, bases), "factors": factors(setting, bases)}
    if has_device:
        parts["stream"] = stream()
    if args.record_golden:
        device_stream.record(device_stream.GOLDEN, device_stream.device_draws, setting.name)
    command = "python -m benchmarks.gpu" + (" --quick" if args.quick else "")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, table in parts.items():
        text = f"# On a GPU: {name}\n\n`{command}` on {setting.name}.\n\n{table}\n"
        (args.out / f"{name}.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
