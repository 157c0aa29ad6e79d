"""The JSON that bitsandbytes stores beside a 4-bit weight."""

import json
from collections.abc import Mapping
from typing import Any

import torch

from tinylora.errors import QuantizedWeightError

BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def parse_state(name: str, raw: bytes) -> dict[str, Any]:
    """Read and check a state.

    Args:
        name: The weight, for messages.
        raw: The JSON bytes as stored.

    Raises:
        QuantizedWeightError: It is none that bitsandbytes writes for a linear layer.
    """
    try:
        state = json.loads(raw)
        known = (
            state["quant_type"] in ("nf4", "fp4")
            and state["blocksize"] in BLOCK_SIZES
            and state["dtype"] in DTYPES
            and len(state["shape"]) == 2
            and all(isinstance(side, int) and side > 0 for side in state["shape"])
            and ("nested_blocksize" not in state or _known_nesting(state))
        )
    except (ValueError, KeyError, TypeError) as error:
        raise QuantizedWeightError(f"{name}: unreadable quantization state {raw!r}") from error
    if not known:
        raise QuantizedWeightError(
            f"{name}: quantization state {state} is none that bitsandbytes writes for a linear "
            f"layer (nf4 or fp4, block size in {BLOCK_SIZES}, dtype in {sorted(DTYPES)}, nested "
            f"with a block size above 0 and an offset, or not nested)"
        )
    return dict(state)


def _known_nesting(state: Mapping[str, Any]) -> bool:
    size, offset = state["nested_blocksize"], state["nested_offset"]
    return isinstance(size, int) and size > 0 and isinstance(offset, int | float)
