"""Exact SVDs of all modules beside bare gesdd

    python -m benchmarks.exact_svds

What an adapter costs the first time on a base: the exact SVD of each module, over all cores. Beside
it is the routine alone on the same weights, in float32 already: one call after another with all
threads, and as many calls at a time as there are cores with one thread each. Ours also reads and
converts the weights, draws P, forms the deltas and wraps the modules. The layers of a model are of
equal shapes, so a few of them give the speed of all; a 3-billion-parameter one has 36.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from benchmarks.harness import alternate, median, parser, table, write_page
from benchmarks.random_base import write_model
from tinylora import load_artifact, restore
from tinylora.workers import single_threaded

COLUMNS = ("way", "median s", "best s", "of the faster bare way")


def alone(W: Tensor) -> None:
    """The trainer's routine, and nothing else."""
    torch.linalg.svd(W, full_matrices=False)


def one_to_a_core(weights: list[Tensor]) -> None:
    """As many at a time as there are cores."""
    with single_threaded(), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(alone, weights))


def ways_of(directory: Path, shape: str, layers: int) -> dict[str, Callable[[], object]]:
    """The bare routine in two ways, and an adapter put on a random model and taken off again."""
    targets = write_model(directory, shape, layers)
    model = Qwen2ForCausalLM.from_pretrained(directory / "base")
    adapter = load_artifact(directory / "tiny_lora_v.pt")
    weights = [model.get_parameter(f"{name}.weight").detach().float() for name in targets]

    def ours() -> None:
        with restore(model, adapter) as restoration:
            assert len(restoration.wrapped) == len(weights)

    return {
        "bare gesdd, one after another on all cores": lambda: list(map(alone, weights)),
        "bare gesdd, one to a core": lambda: one_to_a_core(weights),
        "adapter put on the model": ours,
    }


def rows(directory: Path, shape: str, layers: int, rounds: int) -> Iterator[tuple[str, ...]]:
    """A line a way; the last column is the speed as a part of the bare routine's."""
    found = alternate(ways_of(directory, shape, layers), rounds, warm_up=False)
    *bare, _ = map(median, found.values())
    for way, seconds in found.items():
        yield (way, f"{median(seconds):.2f}", f"{min(seconds):.2f}",
               f"{min(bare) / median(seconds):.2f}")  # fmt: skip


def main() -> None:
    options = parser(__doc__, "bench/exact_svds.md", rounds=2)
    options.add_argument("--shape", default="qwen2.5-coder-3b")
    options.add_argument("--layers", type=int, default=4)
    args = options.parse_args()
    with TemporaryDirectory() as directory:
        lines = list(rows(Path(directory), args.shape, args.layers, args.rounds))
    write_page(args.out, __doc__, f"{7 * args.layers} modules.", table(COLUMNS, lines))


if __name__ == "__main__":
    main()
