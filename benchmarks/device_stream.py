"""The random stream of a GPU beside its emulation, and golden vectors of a real device.

A GPU rounds the angle of the Box-Muller transform to float32 and approximates logarithm and sine,
so its float32 values differ from the emulation's by some 1e-7. A value that lies that near to the
border between two bf16 numbers may round to the other one; any other difference is unexplained.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from tinylora import philox_normal
from tinylora.philox import offset_increment

SEEDS = (0, 42, 20260306, 2**63 - 1)
SHAPES = ((32, 2, 2), (32, 2))
DRAWS = 300
# Largest difference of a float32 value, for values up to 6.7.
DEVICE_ERROR = 2e-6
RECORDED_DRAWS = (0, 1, DRAWS - 1)
GOLDEN = Path(__file__).parents[1] / "tests" / "tinylora" / "golden_device_stream.json"

Shape = tuple[int, ...]
Draws = Callable[[Shape, int], Tensor]


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
    """Values that differ from the emulation, and those among them that no rounding explains.

    Args:
        drawn: bf16 values of a device.
        exact: The emulation's, float32.
    """
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
