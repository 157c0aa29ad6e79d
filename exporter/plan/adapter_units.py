"""The parts of a PEFT TinyLoRA adapter file, as the plan holds them."""

from collections.abc import Iterator
from dataclasses import dataclass

from exporter.plan.ground import Source
from exporter.safetensors.writer import TensorSpec
from tinylora import AdapterSizes


@dataclass(frozen=True)
class TinyUnit:
    """A, B and P of a target module.

    Attributes:
        module: Qualified name of the layer.
        shape: ``(out, in)`` of its weight.
        trained: Which weights training had, see :class:`exporter.plan.plan.LinearUnit`.
        outputs: What is written: A, B, P.
    """

    module: str
    shape: tuple[int, int]
    trained: Source
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class VectorUnit:
    """One trained vector.

    Attributes:
        group: Its number.
        outputs: What is written.
    """

    group: int
    outputs: tuple[TensorSpec, ...]


def tiny_unit(
    module: str, shape: tuple[int, int], trained: Source, sizes: AdapterSizes
) -> TinyUnit:
    """Plan A, B and P of a module, fp32."""
    rank, (out, into) = sizes.rank_of(shape), shape
    shapes = ((rank, into), (out, rank), (sizes.u, rank, rank))
    names = tiny_names(module)
    specs = (TensorSpec(name, "F32", wanted) for name, wanted in zip(names, shapes, strict=True))
    return TinyUnit(module, shape, trained, tuple(specs))


def vector_units(sizes: AdapterSizes) -> Iterator[VectorUnit]:
    """Plan the trained vectors, fp32."""
    for group in range(sizes.groups):
        yield VectorUnit(group, (TensorSpec(vector_name(group), "F32", (sizes.u,)),))


def tiny_names(module: str) -> tuple[str, str, str]:
    """Keys of A, B and P in a PEFT adapter file."""
    prefix = f"base_model.model.{module}.tinylora_"
    return f"{prefix}A", f"{prefix}B", f"{prefix}P"


def vector_name(group: int) -> str:
    """Key of a trained vector in a PEFT adapter file."""
    return f"base_model.tinylora_v.{group}"
