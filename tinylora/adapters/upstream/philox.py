"""Philox4x32-10 and the normal deviates that CUDA's ``torch.randn`` makes from it.

A counter-based generator: ten rounds of multiplication and exclusive-or turn a 128-bit counter
into four 32-bit words, under a 64-bit key. (Salmon, Moraes, Dror, Shaw: "Parallel random numbers:
as easy as 1, 2, 3", SC'11.)

PyTorch on a GPU seeds it so: key = the seed; counter words = (offset/4 low, offset/4 high,
subsequence low, subsequence high), where thread i of the kernel has subsequence i. The kernel
starts ceil(n/256) blocks of 256 threads, at most as many as the device holds at once, and thread i
of T writes its k-th deviate to element i + T·k, four deviates from each counter value. So the
values depend on the device only for tensors that are larger than the device's threads.

The words are exact. The deviates are computed in float64 from the words rounded to float32, and
rounded once at the end, so they are the same on every machine. A GPU rounds the angle to float32
and approximates the sine, so its float32 values may differ from these by some 5e-7, and after the
rounding to bf16 a value in some thousands by one unit in the last place.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylora.errors import ProjectionError

Words = npt.NDArray[np.uint32]

BLOCK_THREADS = 256
# Threads that even a small device (10 multiprocessors of 1536 threads) runs at once.
SMALLEST_DEVICE_THREADS = 10 * 1536

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: Words, key: int) -> Words:
    """Ten rounds of Philox4x32.

    Args:
        counter: ``[..., 4]`` uint32, lowest word first.
        key: 64-bit key.

    Returns:
        ``[..., 4]`` uint32, the random words.
    """
    words = [counter[..., i].astype(np.uint64) for i in range(4)]
    keys = [key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF]
    for _ in range(10):
        first, second = words[0] * _MULTIPLIERS[0], words[2] * _MULTIPLIERS[1]
        words = [
            (second >> _SHIFT) ^ words[1] ^ np.uint64(keys[0]),
            second & _LOW,
            (first >> _SHIFT) ^ words[3] ^ np.uint64(keys[1]),
            first & _LOW,
        ]
        keys = [(k + weyl) & 0xFFFFFFFF for k, weyl in zip(keys, _WEYL, strict=True)]
    return np.stack(words, axis=-1).astype(np.uint32)


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
        ProjectionError: A negative size, an offset that is no multiple of 4, or a tensor so large
            that its values depend on a device that was not named.
    """
    if numel < 0 or offset < 0 or offset % 4:
        raise ProjectionError(
            f"numel = {numel}, offset = {offset}: expected a size ≥ 0 and an offset ≥ 0 that is a "
            "multiple of 4"
        )
    threads = _grid_threads(numel, device_threads)
    element = np.arange(numel, dtype=np.uint64)
    thread, draw = element % threads, element // threads
    position = np.uint64(offset // 4) + draw // 4
    counter = np.stack(
        [position & _LOW, position >> _SHIFT, thread & _LOW, thread >> _SHIFT], axis=-1
    ).astype(np.uint32)
    return torch.from_numpy(_box_muller(philox4x32(counter, seed), (draw % 4).astype(np.int64)))


def offset_increment(numel: int, device_threads: int | None = None) -> int:
    """How far one draw of ``numel`` elements moves the CUDA generator's offset."""
    if numel == 0:
        return 0
    return 4 * ((numel - 1) // (int(_grid_threads(numel, device_threads)) * 4) + 1)


def _grid_threads(numel: int, device_threads: int | None) -> np.uint64:
    blocks = -(-numel // BLOCK_THREADS)
    if device_threads is not None:
        blocks = min(blocks, device_threads // BLOCK_THREADS)
    elif numel > SMALLEST_DEVICE_THREADS:
        raise ProjectionError(
            f"a draw of {numel} elements depends on the GPU that made it: a device may run as few "
            f"as {SMALLEST_DEVICE_THREADS} threads at once. Give device_threads "
            "(multiprocessors × threads of one)"
        )
    return np.uint64(max(1, blocks) * BLOCK_THREADS)


def _box_muller(words: Words, which: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Deviate ``which`` (0 … 3) of the four that each row of words gives, as cuRAND pairs them.

    Words (0, 1) give deviates 0 (sine) and 1 (cosine), words (2, 3) give 2 and 3.
    """
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
