"""Makes bitsandbytes compute the same on every processor.

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
import sys
import warnings
from importlib.machinery import PathFinder


class _Finder(PathFinder):
    """Finds bitsandbytes, as often as it is asked for, and patches it once it is imported."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname != "bitsandbytes":
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is not None:
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (load(module), patch())
        return spec


def patch_when_imported():
    """From the next import of bitsandbytes on, its results do not depend on the processor."""
    sys.meta_path.insert(0, _Finder)


def patch():
    import bitsandbytes.nn.modules
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    kinds = ("nf4", "fp4")
    books = {kind: quantize_4bit(torch.ones(64), quant_type=kind)[1].code for kind in kinds}

    def by_definition(A, absmax, blocksize, quant_type, shape, dtype):
        """Code book times absmax, blocks over the flattened weight."""
        count = math.prod(shape)
        packed = A.reshape(-1).view(torch.uint8)
        codes = torch.stack((packed >> 4, packed & 15), dim=1).view(-1)[:count]
        scales = absmax.float().repeat_interleave(blocksize)[:count]
        return (books[quant_type][codes.long()] * scales).to(dtype).view(tuple(shape))

    bitsandbytes.nn.modules.has_avx512bf16 = lambda: False
    packed, state = quantize_4bit(
        torch.linspace(-1, 1, 2 * 96).view(2, 96), blocksize=64, quant_type="nf4"
    )
    right = by_definition(packed, state.absmax, 64, "nf4", (2, 96), torch.float32)
    if not torch.equal(dequantize_4bit(packed, state), right):
        global _kernels  # it holds as long as this lives
        _kernels = torch.library.Library("bitsandbytes", "IMPL", "CPU")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an operator is replaced
            # the C++ side: torch before 2.8 refuses a second Python kernel
            _kernels.m.impl("dequantize_4bit", "CPU", by_definition, False)
