"""What causal models predict at some positions of texts, and how it waits on the disk.

Only wanted positions go through the output layer: the logits of a whole batch take gigabytes. What
waits is what goes into that layer, 8 kB a token in a model of 3 billion parameters whose logits
take 600 kB; the layer itself stays in memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tinylora.models.batches import TensorSpool, padded

# Of the largest logit: float32 rounds by less, a layer that caps or scales logits changes more.
_ROUNDING = 1e-5


class Scored(Protocol):
    """Token ids of a text, and the positions, ascending, whose prediction of the next counts."""

    @property
    def token_ids(self) -> Sequence[int]:
        """All of the text that is read."""

    @property
    def positions(self) -> Sequence[int]:
        """Places in it."""


@dataclass(frozen=True)
class Predictions:
    """A model's predictions at the n positions of one text.

    Attributes:
        logits: ``[n, vocabulary]``, in the dtype and on the device of the model.
        states: What went into the output layer, ``[n, hidden]``; None where that is not known.
        head: That layer.
    """

    logits: Tensor
    states: Tensor | None = None
    head: nn.Module | None = None


@torch.inference_mode()
def predict(model: Any, texts: Sequence[Scored]) -> tuple[Predictions, ...]:
    """Run a batch of texts, padded behind, which no position sees in a causal model."""
    ids, mask = (part.to(model.device) for part in padded([text.token_ids for text in texts]))
    rows = [row for row, text in enumerate(texts) for _ in text.positions]
    columns = [position for text in texts for position in text.positions]
    head, sizes = model.get_output_embeddings(), [len(text.positions) for text in texts]
    with _only(head, rows, columns) as seen:
        logits = model(ids, attention_mask=mask, use_cache=False).logits
    parts = (torch.split(part[0], sizes) for part in (logits, seen[0]))
    return tuple(Predictions(one, states, head) for one, states in zip(*parts, strict=True))


@contextmanager
def _only(head: nn.Module, rows: list[int], columns: list[int]) -> Iterator[list[Tensor]]:
    """Give the output layer some positions only, as one text, and remember what it was given."""
    seen = []

    def select(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        states, *others = arguments  # [texts, width, hidden] to [1, wanted, hidden]
        seen.append(states[rows, columns].unsqueeze(0))
        return seen[0], *others

    handle = head.register_forward_pre_hook(select)
    try:
        yield seen
    finally:
        handle.remove()


class KeptPredictions:
    """Predictions on the disk, in an empty directory that the caller removes.

    Where logits are more than a plain linear layer makes of its input, they are kept themselves.
    """

    def __init__(self, directory: Path) -> None:
        self._spool = TensorSpool(directory)
        self._head_of: dict[str, nn.Module] = {}
        self._heads: list[nn.Linear] = []

    def keep(self, name: str, found: Predictions) -> None:
        """Write predictions under a name; a ScratchError where there is no room."""
        head = self._plain(found)
        if head is None or found.states is None:
            self._spool.keep(name, found.logits)
        else:
            self._head_of[name] = head
            self._spool.keep(name, found.states)

    @torch.inference_mode()
    def load(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """Logits, ``[n, vocabulary]``; equal to the last bit each time."""
        head = self._head_of.get(name)
        if head is None:
            return self._spool.load(name, device)
        logits: Tensor = head(self._spool.load(name, head.weight.device))  # type: ignore[arg-type]
        return logits.to(device)

    @torch.inference_mode()
    def _plain(self, found: Predictions) -> nn.Linear | None:
        """The layer that makes these logits of these states; models with equal ones share it."""
        head = found.head
        if type(head) is not nn.Linear or found.states is None:
            return None
        own: Tensor = head(found.states)  # of a model on several devices, on the last one
        miss = (own.to(found.logits.device) - found.logits).abs().max()
        if not bool(miss <= _ROUNDING * found.logits.abs().max()):
            return None
        for one in self._heads:
            if one is head or _equal(one, head):
                return one
        self._heads.append(head)
        return head


def _equal(one: nn.Linear, other: nn.Linear) -> bool:
    pairs = ((one.weight, other.weight), (one.bias, other.bias))
    return all(
        a is b or (a is not None and b is not None and a.device == b.device and torch.equal(a, b))
        for a, b in pairs
    )
