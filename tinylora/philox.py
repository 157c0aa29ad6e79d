"""Philox4x32-10 and the normal deviates that CUDA's ``torch.randn`` makes from it.

Ten rounds turn a 128-bit counter into four 32-bit words, under a 64-bit key. (Salmon, Moraes, Dror,
Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11.) On a GPU the key is the seed, and the
counter words are (offset/4 low, offset/4 high, subsequence low, subsequence high), where thread i
has subsequence i. A kernel starts ceil(n/256) blocks of 256 threads, at most as many as the device
holds at once; thread i of T writes its k-th deviate to element i + T·k, four from each counter
value. So the values depend on the device only for tensors larger than the device's threads.

The words are exact. Deviates are computed in float64 from words rounded to float32, and rounded
once, so they are the same on every machine. A GPU's float32 values may differ by some 5e-7, and
after rounding to bf16 a value in some thousands by one unit in the last place.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylora.errors import ProjectionError

Words = tuple[Tensor, Tensor, Tensor, Tensor]

BLOCK_THREADS = 256
# Threads that even a small device (10 multiprocessors of 1536 threads) runs at once.
SMALLEST_DEVICE_THREADS = 10 * 1536

_MULTIPLIER_0, _MULTIPLIER_2 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_WORD = 0xFFFFFFFF
_ROUNDS = 10


def philox4x32(counter: Words, key: tuple[Tensor | int, Tensor | int]) -> Words:
    """Ten rounds of Philox4x32 on four words (the lowest first) under two, all in int64.

    Their shapes broadcast.
    """
    # In place: a CPU spends most of the time on memory.
    words = torch.broadcast_tensors(*counter)  # type: ignore[no-untyped-call]
    c0, c1, c2, c3 = (word.clone() for word in words)
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The low 64 bits of the signed product are those of the unsigned one. Of these the lower
        # word is cut out when it is used, a round later.
        c0 *= _MULTIPLIER_0
        c2 *= _MULTIPLIER_2
        c1 ^= c2 >> 32
        c1 ^= k0
        c1 &= _WORD
        c3 ^= c0 >> 32
        c3 ^= k1
        c3 &= _WORD
        c0, c1, c2, c3 = c1, c2, c3, c0
        k0, k1 = k0 + _WEYL_0 & _WORD, k1 + _WEYL_1 & _WORD
    return c0, c1 & _WORD, c2, c3 & _WORD


def philox_normal(
    numel: int, seed: int, offset: int = 0, *, device_threads: int | None = None
) -> Tensor:
    """Standard normal deviates of ``torch.randn(numel, device="cuda")``, on any machine.

    Args:
        numel: Number of elements n.
        seed: What ``torch.manual_seed`` was given; taken modulo 2⁶⁴.
        offset: The CUDA generator's offset before the draw, a multiple of 4.
        device_threads: Threads that the GPU runs at once (multiprocessors × threads of one, in
            whole blocks of 256); needed only above ``SMALLEST_DEVICE_THREADS`` elements.

    Returns:
        ``[numel]`` float32, before the rounding to the drawn dtype.

    Raises:
        ProjectionError: An impossible size or offset, or values that depend on an unnamed device.
    """
    if numel < 0 or offset < 0 or offset % 4:
        raise ProjectionError(
            f"numel = {numel}, offset = {offset}: expected a size ≥ 0 and an offset ≥ 0 that is a "
            "multiple of 4"
        )
    threads = _grid_threads(numel, device_threads)
    element = np.arange(numel, dtype=np.int64)
    thread, draw = element % threads, element // threads
    position = draw // 4 + offset // 4
    counter = np.stack((position & _WORD, position >> 32, thread & _WORD, thread >> 32))
    c0, c1, c2, c3 = torch.from_numpy(counter)
    words = philox4x32((c0, c1, c2, c3), (seed & _WORD, seed >> 32 & _WORD))
    return torch.from_numpy(_box_muller(torch.stack(words, dim=-1).numpy(), draw % 4))


def offset_increment(numel: int, device_threads: int | None = None) -> int:
    """How far one draw of ``numel`` elements moves the CUDA generator's offset."""
    if numel == 0:
        return 0
    return 4 * ((numel - 1) // (_grid_threads(numel, device_threads) * 4) + 1)


def _grid_threads(numel: int, device_threads: int | None) -> int:
    blocks = -(-numel // BLOCK_THREADS)
    if device_threads is not None:
        blocks = min(blocks, device_threads // BLOCK_THREADS)
    elif numel > SMALLEST_DEVICE_THREADS:
        raise ProjectionError(
            f"a draw of {numel} elements depends on the GPU that made it: a device may run as few "
            f"as {SMALLEST_DEVICE_THREADS} threads at once. Give device_threads "
            "(multiprocessors × threads of one)"
        )
    return max(1, blocks) * BLOCK_THREADS


def _box_muller(
    words: npt.NDArray[np.int64], which: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Deviate ``which`` of a row's four: words (0, 1) give sine 0, cosine 1; (2, 3) give 2, 3."""
    pair = (which // 2 * 2)[:, None]
    # the words become float32 first, as on the device: 32 bits are rounded to 24
    x, y = (
        np.take_along_axis(words, pair + i, axis=-1)[:, 0].astype(np.float32).astype(np.float64)
        for i in (0, 1)
    )
    # the largest words become 2³² as float32; the device then rounds the sum down to 1
    radius = np.sqrt(-2.0 * np.log(np.minimum(x * 2.0**-32 + 2.0**-33, 1.0)))
    angle = y * (2 * math.pi * 2.0**-32) + math.pi * 2.0**-32
    return (radius * np.where(which % 2 == 0, np.sin(angle), np.cos(angle))).astype(np.float32)
