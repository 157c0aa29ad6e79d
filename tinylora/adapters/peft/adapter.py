"""A PEFT TinyLoRA adapter (PEFT 0.19 and later), as untrusted input: ΔW = B · (Σᵢ vᵢ Pᵢ) · A.

For each target module X, and each group g of modules that share a vector, the file has

==================================  ==============  ==========================================
key                                 shape           what
==================================  ==============  ==========================================
``base_model.model.X.tinylora_A``   ``[r, in]``     √S · Vh
``base_model.model.X.tinylora_B``   ``[out, r]``    U · √S
``base_model.model.X.tinylora_P``   ``[u, r, r]``   projections, with ``save_projection`` alone
``base_model.tinylora_v.g``         ``[u]``         the trained vector
==================================  ==============  ==========================================
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tinylora.adapters.adapter import MAX_PROJECTION, MAX_RANK, MAX_U, AdapterSizes
from tinylora.adapters.peft_directory import (
    CONFIG_FILE,
    PREFIX,
    AdapterConfig,
    StoredAdapter,
    Weights,
    adapter_files,
    open_weights,
    read_config,
)
from tinylora.errors import ArtifactError
from tinylora.files.digests import files_sha256

LEAVES = ("tinylora_A", "tinylora_B", "tinylora_P")

_VECTOR = re.compile(r"base_model\.tinylora_v\.(0|[1-9]\d{0,6})")


class PeftConfig(AdapterConfig):
    """The fields that decide an adapter's delta.

    Attributes:
        r: Rank; a module with a shorter side has that side's length instead.
        u: Length of each trained vector.
        weight_tying: 0.0: a vector for each module, 1.0: one for all.
        projection_seed: Seed of P where P is not stored.
        peft_version: Which PEFT wrote it; empty where it does not say.
    """

    without_effect: ClassVar[frozenset[str]] = frozenset(
        {"auto_mapping", "exclude_modules", "inference_mode", "init_v_bound", "init_weights"}
        | {"layers_pattern", "layers_to_transform", "revision", "target_modules"}
        | {"task_type", "tinylora_dropout"}
    )
    peft_type: Literal["TINYLORA"]
    r: Annotated[int, Field(ge=1, le=MAX_RANK)]
    u: Annotated[int, Field(ge=1, le=MAX_U)]
    weight_tying: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    projection_seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
    save_projection: bool
    peft_version: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (size := self.u * self.r**2) > MAX_PROJECTION:
            raise ValueError(
                f"u = {self.u} with r = {self.r} makes projections of {size} numbers a module, "
                f"expected at most {MAX_PROJECTION}"
            )
        if not self.save_projection and (self.peft_version or "").startswith("0.19."):
            raise ValueError(
                "save_projection is false, and PEFT 0.19 seeded projections with Python's hash of "
                "the adapter's name, which is another one in every process: they are lost. Train "
                "with PEFT 0.20 or newer, or with save_projection true"
            )
        return self


def group_count(modules: int, weight_tying: float) -> int:
    """How many vectors PEFT makes for so many modules."""
    return max(1, round(modules * (1.0 - weight_tying)))


def group_of(index: int, modules: int, weight_tying: float) -> int:
    """Which vector PEFT gives to the module at ``index`` in the base's order."""
    groups = group_count(modules, weight_tying)
    return min(index // max(1, modules // groups), groups - 1)


@dataclass(frozen=True, eq=False)
class PeftAdapter(StoredAdapter):
    """A checked adapter; A, B and P stay in the file until they are asked for.

    Attributes:
        vectors: The trained vectors, ``[groups, u]``, in the file's dtype, on the CPU.
    """

    config: PeftConfig
    vectors: Tensor

    @property
    def weight_tying(self) -> float:
        """See :class:`PeftConfig`."""
        return self.config.weight_tying

    @property
    def sizes(self) -> AdapterSizes:
        """Sizes of its tensors."""
        return AdapterSizes(self.config.r, self.config.u, self.vectors.shape[0], capped=True)

    def describe(self) -> dict[str, Any]:
        """What decides its delta, for a manifest."""
        return {
            "dialect": "peft",
            "sha256": self.sha256,
            "v": self.vectors.double().tolist(),
            "u": self.config.u,
            "rank": self.config.r,
            "weight_tying": self.config.weight_tying,
            "projection_seed": self.config.projection_seed,
            "save_projection": self.config.save_projection,
            "model_id": self.model_id,
            "modules": len(self.shapes),
        }


def load_peft_adapter(directory: str | Path) -> PeftAdapter:
    """Read and check what ``save_pretrained`` of a PEFT model with a TinyLoRA made.

    Raises:
        ArtifactMissingError: One of its files is not there.
        ArtifactError: A file, field or tensor is damaged, missing, unknown or out of range.
    """
    directory = Path(directory)
    config = read_config(directory, PeftConfig)
    with open_weights(directory) as weights:
        shapes = _module_shapes(config, weights)
        groups = group_count(len(shapes), config.weight_tying)
        names = _vector_keys(config, weights, groups)
        weights.check_finite()
        vectors = torch.stack([weights.opened.get_tensor(name) for name in names])
    sha256 = files_sha256(adapter_files(directory))
    return PeftAdapter(directory, config, shapes, sha256, vectors)


def _module_shapes(config: PeftConfig, weights: Weights) -> dict[str, tuple[int, int, int]]:
    """Module -> ``(out, in, r)`` in the order of names, with every tensor accounted for."""
    modules = set()
    for name in weights.shapes:
        module, _, leaf = name.removeprefix(PREFIX).rpartition(".")
        if name.startswith(PREFIX) and leaf in LEAVES and module:
            modules.add(module)
        elif not _VECTOR.fullmatch(name):
            weights.refuse(
                name,
                "is no part of a TinyLoRA adapter (A, B, P and v); was something else trained "
                "along with it? Merge it with PEFT",
            )
    if not modules:
        raise ArtifactError(f"{weights.file}: has no module (no tensor named *.tinylora_A)")
    return {module: _shape(config, weights, module) for module in sorted(modules)}


def _shape(config: PeftConfig, weights: Weights, module: str) -> tuple[int, int, int]:
    names = [f"{PREFIX}{module}.{leaf}" for leaf in LEAVES]
    a, b, p = weights.shape(names[0]), weights.shape(names[1]), weights.shapes.get(names[2])
    if (p is None) == config.save_projection:
        state, remedy = ("missing", "false") if p is None else ("there", "true")
        weights.refuse(
            names[2],
            f"is {state}, which save_projection of {CONFIG_FILE} denies; copy both files again, or "
            f"set it to {remedy} if only it is wrong",
        )
    into, out = a[-1] if len(a) == 2 else 0, b[0] if len(b) == 2 else 0
    r = min(config.r, out, into)
    wanted = ("[r, in]", (r, into)), ("[out, r]", (out, r)), ("[u, r, r]", (config.u, r, r))
    for name, (words, expected), found in zip(names, wanted, (a, b, p), strict=True):
        if r == 0 or found not in (expected, None):
            weights.refuse(
                name,
                f"has shape {list(found or ())}, expected {words} with r = {config.r} and "
                f"u = {config.u} of {CONFIG_FILE}",
            )
    return out, into, r


def _vector_keys(config: PeftConfig, weights: Weights, groups: int) -> list[str]:
    """Keys of the trained vectors, in the order of their groups, with none missing or too many."""
    names = [f"base_model.tinylora_v.{group}" for group in range(groups)]
    rule = f"weight_tying {config.weight_tying} makes {groups} groups of the modules"
    for name in names:
        if name not in weights.shapes:
            weights.refuse(name, f"is missing; {rule}")
        if (found := weights.shapes[name]) != (config.u,):
            weights.refuse(name, f"has shape {list(found)}, expected [{config.u}], u as configured")
    for name in sorted(weights.shapes):
        if _VECTOR.fullmatch(name) and name not in names:
            weights.refuse(name, f"belongs to no module; {rule}")
    return names
