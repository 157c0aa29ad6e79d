"""How many bytes of tensors live at once, for work whose memory Python's tools do not see."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Watches every tensor that an operation returns, until it is gone.

    Views count with what they view, inputs do not count. What an operation takes and gives back
    before it returns is not seen.

    Attributes:
        peak: Largest sum seen, in bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._tensors: Counter[int] = Counter()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {_place(x) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            place = _place(tensor)
            if place not in inputs or place in self._tensors:
                self._watch(tensor, place)
        self.peak = max(self.peak, self._live)
        return result

    def _watch(self, tensor: torch.Tensor, place: int) -> None:
        size = tensor.untyped_storage().nbytes()
        if not self._tensors[place]:
            self._live += size
        self._tensors[place] += 1
        weakref.finalize(tensor, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._tensors[place] -= 1
        if not self._tensors[place]:
            del self._tensors[place]
            self._live -= size


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes of tensors that live at once while ``work`` runs, its result included."""
    with LiveBytes() as seen:
        result = work()
    del result
    return seen.peak


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
