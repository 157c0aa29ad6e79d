"""What a dialect of adapters is: the one object that a folder here must have.

Everything behind an adapter (folding, restoring, measuring, documents) asks for these and nothing
else. A new dialect is a folder with a :class:`Dialect`, and a line in
:mod:`tinylora.adapters.dialects`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams
from tinylora.adapters.inspection import Inspection
from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
from tinylora.adapters.options import DeltaOptions, ResolvedOptions, TrainedOn
from tinylora.errors import TargetMismatchError
from tinylora.svd.factor_store import FactorStore
from tinylora.svd.factors import Factors
from tinylora.weights.quantized_weight import QuantizedWeight

MAX_U = 1 << 16
MAX_RANK = 1 << 10
# P of one module, which a file of 2 kB would have us draw, whatever its size.
MAX_PROJECTION = 1 << 26


@dataclass(frozen=True)
class AdapterSizes:
    """Sizes of an adapter's tensors, known before anything is computed.

    Attributes:
        rank: Rank r; the largest one where modules differ.
        u: Length of a trained vector; 0 for LoRA, which has none.
        groups: Number of trained vectors.
        capped: Whether a module with a side shorter than r has that side's rank instead (PEFT), or
            there can be no such module (upstream).
    """

    rank: int
    u: int
    groups: int
    capped: bool

    def rank_of(self, shape: tuple[int, int]) -> int:
        """Rank of a module whose weight has a shape ``(out, in)``."""
        return min(self.rank, *shape)


class Adapter(Protocol):
    """An adapter's files, read and checked."""

    @property
    def path(self) -> Path:
        """The file or directory that it came from."""

    @property
    def sha256(self) -> str:
        """Hex digest of what decides its delta."""

    @property
    def model_id(self) -> str:
        """Name of the base that it was trained on; empty where it names none."""

    @property
    def sizes(self) -> AdapterSizes:
        """Sizes of its tensors."""

    @property
    def trained_on(self) -> TrainedOn:
        """What the base's weights were in training, as far as its files tell."""

    @property
    def made_from_weights(self) -> bool:
        """Whether ΔW is made from the weights of training, which its trainer had in bfloat16.

        Else all of ΔW is in the files, and it is added to weights as they are stored.
        """

    def describe(self) -> dict[str, Any]:
        """What decides its delta, for a manifest."""


class ModuleDelta(Protocol):
    """The delta of one module, with everything costly done."""

    @property
    def factors(self) -> Factors | None:
        """Singular factors that had to be computed; None where the adapter stores its own."""

    def low_rank(self) -> LowRankDelta:
        """ΔW."""

    def parts(self) -> TinyLoRAParts:
        """ΔW under fp32 numerics, taken apart; an OptionsError if the adapter is no TinyLoRA."""

    def wrap(self, layer: nn.Module, params: TinyLoRAGlobalParams) -> AdaptedLinear:
        """An ``nn.Linear`` or ``Linear4bit``, left as it is, with the delta at run time."""


class ModuleDeltas(Protocol):
    """The deltas of one adapter on the modules of one base.

    Attributes:
        names: All target modules, in the order of the base.
        vectors: The trained vectors, ``[groups, u]``, on the CPU, in the dtype of the file.
        weight_tying: PEFT's measure of how many modules share a vector; 1.0: all.
        doubts: Reasons, in plain words, to doubt that this is the delta that was trained. No
            comparison of an export with a restored model shows it, as both have the same options.
    """

    names: tuple[str, ...]
    vectors: Tensor
    weight_tying: float
    doubts: tuple[str, ...]

    @property
    def resolved(self) -> ResolvedOptions | None:
        """How ΔW is rebuilt; None where the adapter stores it and leaves no choice."""

    def module(self, name: str, weight: Callable[[], QuantizedWeight | Tensor]) -> ModuleDelta:
        """The delta of a module, whose frozen weight is asked for only where it is needed.

        Raises:
            TargetMismatchError: No such target module.
            FactorizationError: The SVD failed.
        """


@dataclass(frozen=True)
class Dialect:
    """One form of adapter files, and what is made of them.

    Attributes:
        kind: Type of its adapters, an :class:`Adapter`.
        reads: Whether what is at a path is of this dialect; an ArtifactError if it is of none.
        files: The files of an adapter at a path that it reads, told by names alone.
        load: Reads and checks an adapter; nothing in it is run. An ArtifactMissingError or
            ArtifactError says why it cannot.
        layers: See :func:`tinylora.adapters.dialects.adapted_layers`.
        deltas: See :func:`tinylora.adapters.dialects.deltas_of`.
        inspect: What is in an adapter whose base had such weights, and what about it looks odd.
    """

    kind: type[Any]
    reads: Callable[[Path], bool]
    files: Callable[[Path], tuple[Path, ...]]
    load: Callable[[Path], Any]
    layers: Callable[[Any, nn.Module, str], list[tuple[str, nn.Module]]]
    deltas: Callable[[Any, Sequence[str], DeltaOptions | None, FactorStore | None], ModuleDeltas]
    inspect: Callable[[Any, TrainedOn], Inspection]


def position(names: tuple[str, ...], name: str) -> int:
    """Number of a module among all target modules; a TargetMismatchError if it is none."""
    if name not in names:
        raise TargetMismatchError(f"{name!r} is not among the {len(names)} target modules")
    return names.index(name)
