"""What is in an adapter, and what about it looks odd."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# Trained vectors seen so far lie between 1e-7 and 2e-4.
_SMALL, _LARGE = 1e-7, 1e-1
# ΔW of these is below half a step of most 4-bit weights.
_BELOW_4_BITS = 1e-3


@dataclass(frozen=True)
class Inspection:
    """An adapter and remarks on it.

    Attributes:
        adapter: The adapter.
        facts: What its files say, for JSON.
        numbers: Key of the trained numbers' summary among the facts.
        remarks: What looks odd or needs a decision, in plain words.
        takes: What an export takes by itself where options are left open, in words.
    """

    adapter: Any
    facts: Mapping[str, Any]
    numbers: str
    remarks: tuple[str, ...]
    takes: str = "factors as stored in the adapter"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.facts, "remarks": list(self.remarks)}


def vector_summary(vector: Tensor) -> dict[str, Any]:
    """Size and values of ``[u]`` or ``[groups, u]``, for JSON."""
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
    """What looks odd about ``[u]`` or ``[groups, u]``, called by its name."""
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
    if largest <= _BELOW_4_BITS:
        yield (
            "the delta is far below the steps of 4-bit weights: a merged nf4 export will lose it; "
            "nf4-embedded or lora keep it exactly"
        )


def about_modules(names: Iterable[str]) -> str:
    """How many modules of each name an adapter has."""
    leaves = Counter(name.rsplit(".", 1)[-1] for name in names)
    return "modules: " + ", ".join(f"{count} {leaf}" for leaf, count in sorted(leaves.items()))
