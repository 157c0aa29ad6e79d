"""What a device's own ``torch.randn`` draws, beside the emulation, and golden vectors of it.

    python -m tests.gpu.device_stream

writes the device's random numbers to tests/tinylora/golden_device_stream.json.
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
# Largest difference of a float32 value to the emulation's, for values up to 6.7: a GPU rounds the
# angle of the Box-Muller transform to float32 and approximates logarithm and sine.
DEVICE_ERROR = 2e-6
RECORDED_DRAWS = (0, 1, DRAWS - 1)
GOLDEN = Path(__file__).parents[1] / "tinylora" / "golden_device_stream.json"

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


if __name__ == "__main__":
    about = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    record(GOLDEN, device_draws, about)
