"""The fixed random projections P, drawn from the stream that the trainer drew them from.

The trainer seeds once and then draws one bf16 tensor a module, in module order, on the device that
holds the module's weight: ``[u, r, r]`` for the ``full`` formula; ``[u, r]``, divided by √r in
bf16, for the ``diagonal`` one; the same without the division for ``diagonal-unscaled``. The CPU's
generator gives other numbers than a GPU's, and each GPU of a split model has a stream of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tinylora.adapters.options import Formula, Placement, Stream
from tinylora.adapters.upstream.placement import modules_by_device
from tinylora.errors import ProjectionError
from tinylora.philox import SMALLEST_DEVICE_THREADS, offset_increment, philox_normal

_MOST_NUMBERS = 1 << 28


def draw_projections(
    names: Sequence[str],
    u: int,
    rank: int,
    seed: int,
    *,
    formula: Formula,
    rng: Stream,
    placement: Placement | None = None,
) -> Tensor:
    """Draw P of every module, in the order of the stream; each device's stream starts anew.

    Returns:
        bf16, ``[len(names), u, r, r]`` (full) or ``[len(names), u, r]`` (else), on the CPU.

    Raises:
        ProjectionError: A placement that does not fit; or too many numbers, over all modules or for
            a GPU's stream in one.
    """
    shape = (u, rank, rank) if formula == "full" else (u, rank)
    _check_size(len(names), torch.Size(shape).numel(), rng)
    drawn = torch.empty((len(names), *shape), dtype=torch.bfloat16)
    held = modules_by_device(names, {"": rng} if placement is None else placement)
    for device, indices in held.items():
        if rng == "cpu" and device != "cpu":
            raise ProjectionError(
                f"the placement has modules on {device}, but rng is cpu; leave rng at auto, or the "
                "placement out if the CPU drew every P"
            )
        stream = _cpu_stream if device == "cpu" else _cuda_stream
        drawn[indices] = stream(len(indices), shape, seed)
    if formula == "diagonal":
        # bf16 divided by a Python float: computed in float32, rounded back
        drawn = drawn / rank**0.5
    return drawn


def _check_size(count: int, numel: int, rng: Stream) -> None:
    if count * numel > _MOST_NUMBERS:
        raise ProjectionError(
            f"P of {count} modules has {count * numel} numbers, expected at most {_MOST_NUMBERS}; "
            "an artifact has a smaller u or rank"
        )
    if rng == "cuda" and numel > SMALLEST_DEVICE_THREADS:
        raise ProjectionError(
            f"P of a module has {numel} numbers; above {SMALLEST_DEVICE_THREADS} they depend on "
            "the size of the GPU that drew them, which an artifact does not tell, so they cannot "
            "be drawn again; say rng=cpu if P was drawn on a CPU"
        )


def _cuda_stream(count: int, shape: tuple[int, ...], seed: int) -> Tensor:
    numel = torch.Size(shape).numel()
    advance = offset_increment(numel)
    draws = [philox_normal(numel, seed, advance * i) for i in range(count)]
    return torch.stack(draws).to(torch.bfloat16).reshape(count, *shape)


def _cpu_stream(count: int, shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    draws = [torch.randn(shape, generator=generator, dtype=torch.bfloat16) for _ in range(count)]
    return torch.stack(draws)
