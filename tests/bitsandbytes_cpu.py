"""Makes bitsandbytes compute the same on every processor, for the length of a test run.

bitsandbytes 0.50 chooses its CPU kernels by the processor, and on some of them

* ``dequantize_4bit`` is wrong where a row has a multiple of 32 elements and is not a whole number
  of blocks (AVX-512; the blocks are taken to begin anew in every row);
* ``Linear4bit`` repacks its weight at the first forward without gradients, refuses rows that are
  not whole blocks, and computes in bfloat16 whatever is asked (AVX512-BF16).

Models of real sizes have rows of whole blocks, and the evaluator switches the second off itself.
The small ones of the tests have not, so there the first is replaced by the format's own definition,
only where this processor's kernel is found to be wrong, and the second is switched off.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import bitsandbytes.nn.modules
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torch import Tensor, library

CODES = {
    kind: quantize_4bit(torch.ones(64), quant_type=kind)[1].code.clone() for kind in ("nf4", "fp4")
}


def by_definition(
    A: Tensor,
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    shape: Sequence[int],
    dtype: torch.dtype,
) -> Tensor:
    """Code book times absmax, blocks over the flattened weight; the signature is the operator's."""
    count = math.prod(shape)
    packed = A.reshape(-1).view(torch.uint8)
    codes = torch.stack((packed >> 4, packed & 15), dim=1).view(-1)[:count]
    scales = absmax.float().repeat_interleave(blocksize)[:count]
    return (CODES[quant_type][codes.long()] * scales).to(dtype).view(tuple(shape))


def is_wrong_here() -> bool:
    """Whether this processor's kernel misreads rows of one and a half blocks."""
    weight = torch.linspace(-1, 1, 2 * 96).view(2, 96)
    packed, state = quantize_4bit(weight, blocksize=64, quant_type="nf4")
    right = by_definition(packed, state.absmax, 64, "nf4", (2, 96), torch.float32)
    return not torch.equal(dequantize_4bit(packed, state), right)


@contextmanager
def same_on_every_processor() -> Iterator[None]:
    """In here bitsandbytes' results do not depend on the processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
        if not is_wrong_here():
            yield
            return
        kernels = library.Library("bitsandbytes", "IMPL", "CPU")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an operator is replaced
            kernels.impl("dequantize_4bit", by_definition, allow_override=True)
        yield
        kernels._destroy()
