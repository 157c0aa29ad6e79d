"""What can be said about trained numbers alone."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

# Trained vectors seen so far lie between 1e-7 and 2e-4.
_SMALL, _LARGE = 1e-7, 1e-1


def vector_summary(vector: Tensor) -> dict[str, Any]:
    """Size and values, for JSON.

    Args:
        vector: ``[u]`` or ``[groups, u]``.
    """
    exact = vector.double()
    return {
        "dtype": str(vector.dtype).removeprefix("torch."),
        "norm": float(exact.norm()),
        "smallest": float(exact.abs().min()),
        "largest": float(exact.abs().max()),
        "zeros": int((exact == 0).sum()),
        "values": exact.tolist(),
    }


def about_vector(vector: Tensor, name: str) -> Iterator[str]:
    """What looks odd about it.

    Args:
        vector: ``[u]`` or ``[groups, u]``.
        name: What it is called.
    """
    sizes = vector.double().abs()
    largest = float(sizes.max())
    if largest == 0:
        yield f"{name} is all zeros: nothing was trained, the adapter changes nothing"
        return
    if zeros := int((sizes == 0).sum()):
        yield f"{zeros} of {sizes.numel()} entries of {name} are exactly zero"
    if largest < _SMALL:
        yield f"the largest entry of {name} is {largest:.3g}, less than any real one seen"
    if largest > _LARGE:
        yield f"the largest entry of {name} is {largest:.3g}, far above any real one seen"
    if largest <= 1e-3:
        yield (
            "the delta is far below the steps of 4-bit weights: a merged nf4 export will lose it; "
            "nf4-embedded or lora keep it exactly"
        )
