"""P a second time, in plain Python integers and floats, without a line or a library of tinylora.

Philox from the paper's definition, one thread and one module at a time, Box-Muller with `math`,
bf16 rounding on the bits.
"""

import math
import struct

MASK = 0xFFFFFFFF


def philox(counter, key):
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def float32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def normal(seed, offset, thread):
    counter = (offset // 4 & MASK, offset // 4 >> 32, thread, 0)
    x, y, _, _ = philox(counter, (seed & MASK, seed >> 32))
    u = float32(float(x)) / 2**32 + 1 / 2**33
    angle = 2 * math.pi * (float32(float(y)) / 2**32 + 1 / 2**33)
    return float32(math.sqrt(-2 * math.log(u)) * math.sin(angle))


def bf16_bits(x):
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def bf16_value(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def projection(seed, module, numel, scale):
    # every draw of at most 4·256·blocks elements moves the offset by 4
    drawn = [bf16_bits(normal(seed, 4 * module, thread)) for thread in range(numel)]
    return [bf16_bits(float32(bf16_value(bits) / scale)) for bits in drawn]
