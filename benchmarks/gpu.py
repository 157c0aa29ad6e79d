"""What a GPU does

    python -m benchmarks.gpu [--quick] [--record-golden]

Its stream, folds and factors of a 3B model, each beside its limit; ``--record-golden`` also writes
the device's random numbers to tests/tinylora/golden_device_stream.json. Without a device only
``--quick`` runs: small shapes on the CPU, to see that everything works.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness import alternate, median, parser, table, write_page
from benchmarks.random_base import LAYER_3B, LAYERS_3B, delta_of_size, trained_like
from exporter.quantize.requantize import preserve
from tinylora import QuantizedWeight, fast_factors, philox_normal
from tinylora.philox import offset_increment

# Entries of a real artifact's delta, and of larger ones.
SIZES = (1e-6, 4e-4, 3e-3)
QUICK_LAYER = ((64, 64), (64, 64), (32, 64), (192, 64), (64, 192))
SEEDS = (0, 42, 20260306, 2**63 - 1)
SHAPES = ((32, 2, 2), (32, 2))
DRAWS = 300
# Largest difference of a float32 value to the emulation's, for values up to 6.7: a GPU rounds the
# angle of the Box-Muller transform to float32 and approximates logarithm and sine.
DEVICE_ERROR = 2e-6
RECORDED_DRAWS = (0, 1, DRAWS - 1)
GOLDEN = Path(__file__).parents[1] / "tests" / "tinylora" / "golden_device_stream.json"

Shape = tuple[int, ...]
Draws = Callable[[Shape, int], Tensor]


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

    def seconds(self, work: Callable[[], object], rounds: int | None = None) -> float:
        """Median time of some work on the device, after one round to warm up."""
        return median(alternate({"": work}, rounds or self.rounds)[""])


def folds(setting: Setting, bases: Sequence[QuantizedWeight]) -> str:
    """All modules folded, beside moving their packed bytes."""
    source = torch.ones(setting.copied_bytes, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    rate = 2 * source.nbytes / setting.seconds(lambda: target.copy_(source))
    packed = sum(base.data.nbytes for base in bases)
    limit = 2 * packed / rate
    columns = ("way", "codes moved", "ms", "× moving the bytes")
    rows = [("moving the packed bytes, at that bandwidth", "", f"{limit * 1e3:.4g}", "1")]
    rows += [fold_row(setting, bases, size, limit) for size in SIZES]
    return (
        f"Copy bandwidth {rate / 1e9:.4g} GB/s (read and written); {len(bases)} modules with "
        f"{packed / 1e9:.4g} GB of packed bytes. Limit of a fold where nothing moves: 3 × moving "
        f"them.\n\n{table(columns, rows)}"
    )


def fold_row(
    setting: Setting, bases: Sequence[QuantizedWeight], size: float, limit: float
) -> tuple[str, ...]:
    """The line of one size of delta."""
    deltas = {base.shape: delta_of_size(base.shape, size, setting.device) for base in bases}

    def work() -> list[QuantizedWeight]:
        return [preserve(base, deltas[base.shape]) for base in bases]

    pairs = ((a, b) for a, b in zip(bases, work(), strict=True) if a is not b)
    moved = sum(int((a.codes() != b.codes()).sum()) for a, b in pairs)
    share = moved / sum(base.numel for base in bases)
    took = setting.seconds(work)
    cells = (f"{100 * share:.2g} %", f"{took * 1e3:.4g}", f"{took / limit:.3g}")
    return (f"fold, delta {size:.0e}", *cells)


def factors(setting: Setting, bases: Sequence[QuantizedWeight]) -> str:
    """Fast factors of all modules, dequantizing included."""
    took = setting.seconds(lambda: [fast_factors(b.dequantize(), 2) for b in bases], rounds=1)
    return f"All {len(bases)} modules: {took:.4g} s. Limit: 60 s."


def device_draws(shape: Shape, seed: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """What the device's own ``torch.randn`` gives: ``[300, n]``, on the CPU."""
    with torch.random.fork_rng(devices=[0]):
        torch.manual_seed(seed)
        drawn = [torch.randn(shape, device="cuda", dtype=dtype).cpu() for _ in range(DRAWS)]
    return torch.stack(drawn).view(DRAWS, -1)


def emulated_draws(shape: Shape, seed: int) -> Tensor:
    """The same from the emulation, float32 ``[300, n]``."""
    numel = math.prod(shape)
    step = offset_increment(numel)
    return torch.stack([philox_normal(numel, seed, step * i) for i in range(DRAWS)])


def differing(drawn: Tensor, exact: Tensor) -> tuple[int, int]:
    """bf16 values that differ from float32 ones, and those of them that no rounding explains."""
    differs = drawn != exact.to(torch.bfloat16)
    one, other = ((exact[differs] + e).to(torch.bfloat16) for e in (-DEVICE_ERROR, DEVICE_ERROR))
    explained = (one == drawn[differs]) | (other == drawn[differs])
    return int(differs.sum()), int((~explained).sum())


def record(path: Path, draws: Draws, device: str) -> None:
    """Write golden vectors: the bits of some draws for each seed and shape."""
    entries = []
    for shape in SHAPES:
        for seed in SEEDS:
            drawn = draws(shape, seed)
            for draw in RECORDED_DRAWS:
                bits = drawn[draw].view(torch.int16).tolist()
                entries.append({"shape": shape, "seed": seed, "draw": draw, "bits": bits})
    content = {"device": device, "torch": torch.__version__, "draws": entries}
    path.write_text(json.dumps(content) + "\n")


def golden(path: Path = GOLDEN) -> Iterator[tuple[Shape, int, int, Tensor]]:
    """Shape, seed, number of the draw and values, bf16 ``[n]``, of every golden vector."""
    for entry in json.loads(path.read_text())["draws"]:
        bits = torch.tensor(entry["bits"], dtype=torch.int16)
        yield tuple(entry["shape"]), entry["seed"], entry["draw"], bits.view(torch.bfloat16)


def stream() -> str:
    """Values of the device's stream that differ from the emulation."""

    def rows() -> Iterator[tuple[object, ...]]:
        for shape in SHAPES:
            for seed in SEEDS:
                drawn = device_draws(shape, seed)
                found = differing(drawn, emulated_draws(shape, seed))
                yield (shape, seed, drawn.numel(), *found)

    return table(("shape", "seed", "values", "differ", "unexplained"), rows())


def main() -> None:
    options = parser(__doc__, "gpu", rounds=7)
    options.add_argument("--quick", action="store_true", help="small shapes, on the CPU too")
    options.add_argument("--record-golden", action="store_true")
    args = options.parse_args()
    has_device = torch.cuda.is_available()
    if not has_device and (args.record_golden or not args.quick):
        options.error("no CUDA device; only --quick runs without one")
    device = "cuda" if has_device else "cpu"
    setting = Setting(device, LAYER_3B, LAYERS_3B, args.rounds, 1 << 30)
    if args.quick:
        setting = Setting(device, QUICK_LAYER, 2, 2, 1 << 20)
    shapes = [(shape, seed) for seed in range(setting.layers) for shape in setting.layer]
    bases = [QuantizedWeight.quantize(trained_like(*which, device)) for which in shapes]
    parts = {"folds": folds(setting, bases), "factors": factors(setting, bases)}
    if has_device:
        parts["stream"] = stream()
    if args.record_golden:
        record(GOLDEN, device_draws, setting.name)
    for name, part in parts.items():
        write_page(args.out / f"{name}.md", __doc__, part, about=setting.name)


if __name__ == "__main__":
    main()
