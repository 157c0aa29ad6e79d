"""The deltas of a PEFT adapter on the modules of one base, as PEFT computes them.

PEFT numbers the target modules in the order of the base's ``named_modules()``. The number gives a
module its vector, and, where P is not stored, the seed of its P: a CPU generator seeded with
``projection_seed + number``, normal with variance 1/r, fp32. PEFT then rounds P, like A and B, to
the dtype of the layer that is being trained. That dtype is not in the file, but all values of A
having it are, so a P drawn here is rounded in the same way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinylora.adapters.adapted_linear import AdaptedLinear, TinyLoRAGlobalParams
from tinylora.adapters.adapter import Dialect, position
from tinylora.adapters.inspection import Inspection, about_modules, about_vector, vector_summary
from tinylora.adapters.low_rank import LowRankDelta, TinyLoRAParts
from tinylora.adapters.options import TrainedOn
from tinylora.adapters.peft.adapter import LEAVES, PeftAdapter, group_of, load_peft_adapter
from tinylora.adapters.peft_directory import (
    StoredDeltas,
    about_training,
    adapter_files,
    method_of,
    named_layers,
)
from tinylora.weights.quantized_weight import QuantizedWeight


class PeftDeltas(StoredDeltas):
    """The deltas of an adapter on its modules, named in the order of the base."""

    def module(
        self, name: str, weight: Callable[[], QuantizedWeight | Tensor] | None = None
    ) -> "PeftModuleDelta":
        """The delta of a module; a TargetMismatchError if it is none. No weight is needed."""
        return PeftModuleDelta(self, position(self.names, name))


@dataclass(frozen=True, eq=False)
class PeftModuleDelta:
    """The delta of the module with this number."""

    deltas: PeftDeltas
    index: int
    factors: None = None

    def low_rank(self) -> LowRankDelta:
        """ΔW, of the module's own rank."""
        parts = self.parts()
        return parts.low_rank(self.deltas.vectors[parts.group])

    def parts(self) -> TinyLoRAParts:
        """A, B, P and the group, as stored or drawn; an ArtifactError if the file has gone."""
        config, names = self.deltas.adapter.config, self.deltas.names
        leaves = LEAVES if config.save_projection else LEAVES[:2]
        A, B, *stored = self.deltas.adapter.read(names[self.index], leaves)
        if not config.save_projection:
            drawn = draw_projection(config.projection_seed + self.index, config.u, A.shape[0])
            stored = [drawn.to(_training_dtype(A))]
        group = group_of(self.index, len(names), config.weight_tying)
        return TinyLoRAParts(A.float(), B.float(), stored[0].float(), group)

    def wrap(self, layer: nn.Module, params: TinyLoRAGlobalParams) -> "PeftTinyLoRALinear":
        """The layer with the delta at run time, trainable in its own vector."""
        return PeftTinyLoRALinear(layer, params, self.parts())


class PeftTinyLoRALinear(AdaptedLinear):
    """A linear module and its TinyLoRA update of PEFT's dialect: y = base(x) + x Aᵀ Rᵀ Bᵀ."""

    A: Tensor
    B: Tensor
    P: Tensor

    def __init__(
        self, base_layer: nn.Module, global_params: TinyLoRAGlobalParams, parts: TinyLoRAParts
    ) -> None:
        super().__init__(base_layer, global_params)
        self.group = parts.group
        for name in ("A", "B", "P"):
            tensor = getattr(parts, name).to(self.weight.device)
            self.register_buffer(name, tensor, persistent=False)

    def matrices(self) -> tuple[Tensor, ...]:
        """B, R and A; R is differentiable in the module's own vector."""
        vector = self._shared[0].global_v
        own = (vector if vector.dim() == 1 else vector[self.group]).to(self.P.device).float()
        return self.B, (own @ self.P.flatten(-2)).view(self.P.shape[1:]), self.A


def draw_projection(seed: int, u: int, rank: int) -> Tensor:
    """P of a module that stores none, fp32 ``[u, r, r]``; torch's own random state is not used."""
    generator = torch.Generator("cpu").manual_seed(seed)
    size, scale = (u, rank, rank), 1.0 / rank**0.5
    return torch.normal(0.0, scale, size, generator=generator, dtype=torch.float32)


def _training_dtype(A: Tensor) -> torch.dtype:
    """Dtype of the layer on which A was made: the narrowest that holds all of its values."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(A.to(dtype).to(A.dtype), A):
            return dtype
    return torch.float32


def _inspect(adapter: PeftAdapter, trained_on: TrainedOn) -> Inspection:
    """The vectors, and how they are shared."""
    config = adapter.config
    facts = {
        "directory": adapter.path.name,
        "sha256": adapter.sha256,
        "dialect": "PEFT TinyLoRA",
        "base_model_name_or_path": config.base,
        "modules": len(adapter.shapes),
        "rank": config.r,
        "u": config.u,
        "vectors": adapter.vectors.shape[0],
        "weight_tying": config.weight_tying,
        "projection": "stored" if config.save_projection else f"seed {config.projection_seed}",
        "v": vector_summary(adapter.vectors),
    }
    remarks = [about_modules(adapter.shapes), *about_vector(adapter.vectors, "v")]
    if not config.save_projection:
        remarks.append(
            "the projections are drawn again from the seed, numbered by the base's module "
            "order; --format peft-tinylora stores them"
        )
    if_16bit = (
        "PEFT trains TinyLoRA on 16-bit weights, and dense exports add it to those; if the "
        "base was in 4 bits all the same"
    )
    remarks += about_training(adapter, trained_on, if_16bit)
    return Inspection(adapter, facts, "v", tuple(remarks))


PEFT_TINYLORA = Dialect(
    kind=PeftAdapter,
    reads=lambda path: method_of(path) == "TINYLORA",
    files=adapter_files,
    load=load_peft_adapter,
    layers=named_layers,
    deltas=PeftDeltas,
    inspect=_inspect,
)
