"""The deltas of a PEFT adapter on the modules of one base, as PEFT computes them.

PEFT numbers the target modules in the order of the base's ``named_modules()``. The number gives a
module its vector, and, where P is not stored, the seed of its P: a CPU generator seeded with
``projection_seed + number``, normal with variance 1/r, fp32. PEFT then rounds P, like A and B, to
the dtype of the layer that is being trained. That dtype is not in the file, but all values of A
having it are, so a P drawn here is rounded in the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinylora.adapters.adapted_linear import TinyLoRAGlobalParams
from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
from tinylora.adapters.peft.adapter import PeftAdapter
from tinylora.adapters.peft.linear import PeftTinyLoRALinear
from tinylora.adapters.peft.tensors import group_of
from tinylora.errors import TargetMismatchError
from tinylora.weights.quantized_weight import QuantizedWeight


class PeftDeltas:
    """See :class:`tinylora.adapters.adapter.ModuleDeltas`.

    Args:
        adapter: The adapter.
        names: Its modules, in the order of the base.

    Attributes:
        names: As given.
        vectors: The trained vectors, ``[groups, u]``.
        weight_tying: The adapter's.
        resolved: None: there is nothing to decide.
        doubts: None.
    """

    def __init__(self, adapter: PeftAdapter, names: Sequence[str]) -> None:
        self.adapter = adapter
        self.names = tuple(names)
        self.vectors = adapter.vectors
        self.weight_tying = adapter.config.weight_tying
        self.resolved = None
        self.doubts: tuple[str, ...] = ()
        self._index = {name: i for i, name in enumerate(self.names)}

    def module(
        self, name: str, weight: Callable[[], QuantizedWeight | Tensor] | None = None
    ) -> "PeftModuleDelta":
        """The delta of a module; nothing of its weight is needed, as A and B are stored.

        Raises:
            TargetMismatchError: No such target module.
        """
        if name not in self._index:
            raise TargetMismatchError(f"{name!r} is not among the {len(self.names)} target modules")
        return PeftModuleDelta(self, self._index[name])


@dataclass(frozen=True, eq=False)
class PeftModuleDelta:
    """The delta of one module, see :class:`tinylora.adapters.adapter.ModuleDelta`.

    Attributes:
        deltas: All of them.
        index: The module's number.
        factors: None: nothing had to be factorized.
    """

    deltas: PeftDeltas
    index: int
    factors: None = None

    def low_rank(self) -> LowRankDelta:
        """ΔW, of the module's own rank."""
        parts = self.parts()
        return parts.low_rank(self.deltas.vectors[parts.group])

    def parts(self) -> TinyLoRAParts:
        """A, B, P and the group, as stored or drawn.

        Raises:
            ArtifactError: The file has gone meanwhile.
        """
        config, names = self.deltas.adapter.config, self.deltas.names
        stored = self.deltas.adapter.read(names[self.index])
        A, B = stored["A"], stored["B"]
        P = stored.get("P")
        if P is None:
            P = draw_projection(config.projection_seed + self.index, config.u, A.shape[0])
            P = P.to(training_dtype(A))
        group = group_of(self.index, len(names), config.weight_tying)
        return TinyLoRAParts(A.float(), B.float(), P.float(), group)

    def wrap(self, layer: nn.Module, params: TinyLoRAGlobalParams) -> PeftTinyLoRALinear:
        """The layer with the delta at run time, trainable in its own vector."""
        return PeftTinyLoRALinear(layer, params, self.parts())


def draw_projection(seed: int, u: int, rank: int) -> Tensor:
    """P of a module that stores none, fp32 ``[u, r, r]``; torch's own random state is not used.

    Args:
        seed: ``projection_seed`` plus the module's number.
        u: Length of the vector.
        rank: r of the module.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    size, scale = (u, rank, rank), 1.0 / rank**0.5
    return torch.normal(0.0, scale, size, generator=generator, dtype=torch.float32)


def training_dtype(A: Tensor) -> torch.dtype:
    """Dtype of the layer on which A was made: the narrowest that holds all of its values."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(A.to(dtype).to(A.dtype), A):
            return dtype
    return torch.float32
