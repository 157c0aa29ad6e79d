"""Gumbel noise that pairs the arms of a comparison.

Adding independent Gumbel(0, 1) noise to ``logits / temperature`` and taking the largest draws
exactly one sample from the softmax (Gumbel 1954; Maddison, Tarlow, Minka: "A* Sampling", 2014).
Here it is a pure function of seed, problem, sample, position and token: Philox4x32-10 with

    counter = (token // 2, position, digest[2], digest[3])      key = (digest[0], digest[1])

of the digest of (seed, problem, sample). Of the four words of a block the even token takes the
first two and the odd token the last two; 52 of these 64 bits make the uniform number.
"""

import hashlib
import json
import struct

import torch
from torch import Tensor

from tinylora.philox import philox4x32

_VALUES_IN_CACHE = 1 << 16  # of rows that a CPU makes at once; many more take three times as long


def noise_key(seed: int, problem: str, sample: int) -> tuple[int, ...]:
    """Digest of what a stream of noise belongs to, as four 32-bit words."""
    name = json.dumps([seed, problem, sample], ensure_ascii=True).encode()
    digest = hashlib.blake2b(name, digest_size=16, person=b"gumbel-noise").digest()
    return struct.unpack("<4I", digest)


def gumbel_noise(keys: Tensor, position: int | Tensor, vocabulary: int) -> Tensor:
    """Noise of one position of every row, for each token, float64 [B, V].

    Args:
        keys: int64 [B, 4], rows of ``noise_key``.
        position: Number of tokens generated before this one, or int64 [B], one of each row.
        vocabulary: V; the values of a token do not depend on it.
    """
    positions = torch.as_tensor(position, device=keys.device).expand(len(keys))
    at_once = len(keys) if keys.is_cuda else max(1, _VALUES_IN_CACHE // vocabulary)
    parts = zip(torch.split(keys, at_once), torch.split(positions, at_once), strict=True)
    return torch.cat([_noise(*part, vocabulary) for part in parts])


def _noise(keys: Tensor, positions: Tensor, vocabulary: int) -> Tensor:
    blocks = torch.arange((vocabulary + 1) // 2, dtype=torch.int64, device=keys.device)
    column = keys.unsqueeze(1)  # [B, 1, 4]
    words = philox4x32(
        (blocks, positions.unsqueeze(1), column[..., 2], column[..., 3]),
        (column[..., 0], column[..., 1]),
    )
    noise = torch.empty((*words[0].shape, 2), dtype=torch.float64, device=keys.device)
    for token, (high, low) in enumerate((words[:2], words[2:])):
        noise[..., token] = high << 20 | low >> 12
    # 52 bits as a number in the open interval (0, 1), and that as Gumbel noise, in place
    noise.add_(0.5).mul_(2.0**-52).log_().neg_().log_().neg_()
    return noise.flatten(1)[:, :vocabulary]
