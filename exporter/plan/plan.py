"""The frozen plan: which tensors go into which file, checked before any work is done.

A plan is built from headers and a meta-device model alone. Each file holds units, a unit being the
tensors that are made together and must stay in one file:

* :class:`TensorUnit`  a tensor that is carried over, or cast;
* :class:`LinearUnit`  the weight of a linear layer, dense or 4-bit, perhaps with the delta folded;
* :class:`LoraUnit`    the two factors of a target module;
* :class:`TinyUnit`, :class:`VectorUnit`  the parts of a PEFT TinyLoRA adapter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from exporter.base.architecture import Architecture
from exporter.base.check import check_base
from exporter.base.checkpoint import SINGLE_FILE, Checkpoint
from exporter.errors import PlanError
from exporter.formats.formats import Format
from exporter.plan.adapter_units import TinyUnit, VectorUnit, tiny_unit, vector_units
from exporter.plan.ground import UPSTREAM_GROUND, Ground, Source
from exporter.safetensors.header import DTYPE_NAMES
from exporter.safetensors.writer import TensorSpec, file_bytes
from tinylora import AdapterSizes
from tinylora.adapters import peft_directory
from tinylora.weights.quantized_weight import STATE_PREFIX

ADAPTER_WEIGHTS = peft_directory.WEIGHTS_FILE
# The trainer loads 16-bit bases with dtype=bfloat16 and these bitsandbytes settings.
TRAINER_DTYPE = torch.bfloat16
BLOCK_SIZE = 64
NESTED_BLOCK_SIZE = 256


@dataclass(frozen=True)
class TensorUnit:
    """A tensor of the base that no fold touches.

    Attributes:
        name: Its key, in the base and in the output.
        shape: Its shape.
        casts: Dtypes that it passes through, in order; empty: byte for byte as it is.
        outputs: What is written.
    """

    name: str
    shape: tuple[int, ...]
    casts: tuple[torch.dtype, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class LinearUnit:
    """The weight of a linear layer.

    Attributes:
        module: Qualified name of the layer.
        shape: ``(out, in)``.
        source: Which weights the output stands on: ``4bit`` (as the base stores them),
            ``quantize`` (16-bit, quantized on the way as loading in 4 bits would) or ``dense``
            (16-bit and left so).
        trained: Likewise, which weights training had.
        as_stored: Whether 16-bit weights are added to as the file has them, and not in bfloat16.
        fold: Whether the delta is added.
        dtype: Dtype of a dense output; None: the output is 4-bit.
        outputs: What is written.
    """

    module: str
    shape: tuple[int, int]
    source: Source
    trained: Source
    as_stored: bool
    fold: bool
    dtype: torch.dtype | None
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class LoraUnit:
    """The LoRA pair of a target module.

    Attributes:
        module: Qualified name of the layer.
        shape: ``(out, in)`` of its weight.
        trained: As in :class:`LinearUnit`.
        rank: Rank of the pair; a delta of a lower one is padded with zeros.
        balanced: Whether the two factors are brought to one size, see
            :func:`exporter.fold.fold.lora_pair`.
        dtype: Of both factors.
        outputs: What is written.
    """

    module: str
    shape: tuple[int, int]
    trained: Source
    rank: int
    balanced: bool
    dtype: torch.dtype
    outputs: tuple[TensorSpec, ...]


ModuleUnit = LinearUnit | LoraUnit | TinyUnit
Unit = TensorUnit | ModuleUnit | VectorUnit


@dataclass(frozen=True)
class OutputFile:
    """One safetensors file of the output."""

    name: str
    units: tuple[Unit, ...]

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor in it."""
        return tuple(spec for unit in self.units for spec in unit.outputs)


@dataclass(frozen=True)
class ExportPlan:
    """What will be written.

    Attributes:
        files: The weight files, adapter included, in the order in which they are made.
        targets: Target modules in the order of the random stream.
        kept: Linear modules that 4-bit loading leaves in 16 bits.
    """

    files: tuple[OutputFile, ...]
    targets: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def max_bytes(self) -> int:
        """Most bytes that the weight files can take."""
        return sum(file_bytes(file.specs) for file in self.files)

    @property
    def expected(self) -> frozenset[str]:
        """Modules whose delta must have been folded, or stored, when the export ends."""
        return frozenset(self.targets)


def build_plan(
    base: Checkpoint,
    architecture: Architecture,
    layout: Format,
    *,
    sizes: AdapterSizes,
    ground: Ground = UPSTREAM_GROUND,
    max_shard_size: int | None = None,
    keep: Sequence[str] = (),
    adapter_dtype: torch.dtype = torch.float32,
) -> ExportPlan:
    """Plan an export from headers.

    Args:
        base: The base checkpoint.
        architecture: Its modules.
        layout: The output format.
        sizes: The adapter's sizes.
        ground: What weights training had, and what dense outputs stand on.
        max_shard_size: Largest shard in bytes; None keeps the base's layout.
        keep: Target modules that a 4-bit format stores in bf16 all the same.
        adapter_dtype: Of a LoRA pair.

    Returns:
        The plan.

    Raises:
        PlanError: Weights and config.json of the base do not belong together
            (:func:`exporter.base.check.check_base`), or a module to keep is no target.
    """
    check_base(base, architecture)
    if layout.dtype is None:  # outputs in 4 bits stand on weights in 4 bits
        ground = replace(ground, fold_onto="dequantized", as_stored=False)
    if not sizes.capped:
        _check_rank(architecture, sizes.rank)
    if unknown := set(keep) - set(architecture.targets):
        raise PlanError(
            f"{base.path}: {sorted(unknown)[0]!r} cannot be kept in bf16, it is no module that the "
            "adapter changes"
        )
    planner = _Planner(base, architecture, layout, ground, frozenset(keep))
    files: list[OutputFile] = []
    if layout.weights != "none":
        groups = [list(planner.units(shard)) for shard in base.shards]
        if max_shard_size is not None:
            groups = _regroup([unit for group in groups for unit in group], max_shard_size)
        files += _named([group for group in groups if group])
    if layout.adapter:
        files.append(OutputFile(ADAPTER_WEIGHTS, tuple(planner.adapter(sizes, adapter_dtype))))
    kept = tuple(sorted({*architecture.kept, *keep}))
    return ExportPlan(tuple(files), architecture.targets, kept)


def lora_names(module: str) -> tuple[str, str]:
    """Keys of ``lora_A`` and ``lora_B`` in a PEFT adapter file."""
    prefix = f"base_model.model.{module}"
    return f"{prefix}.lora_A.weight", f"{prefix}.lora_B.weight"


@dataclass(frozen=True)
class _Planner:
    base: Checkpoint
    architecture: Architecture
    layout: Format
    ground: Ground
    keep: frozenset[str]

    def units(self, shard: str) -> Iterator[Unit]:
        """Units whose (packed) weight lies in a shard of the base."""
        linear = set(self.architecture.linears) | set(self.architecture.targets)
        linear |= {prefix.removesuffix(".weight") for prefix in self.base.packed}
        companions = {name for prefix in self.base.packed for name in self.base.parts[prefix]}
        for name, header in self.base.tensors.items():
            module = name.removesuffix(".weight")
            if header.file != shard or name in companions:
                continue
            if name.endswith(".weight") and module in linear:
                yield self._linear(module)
            else:
                yield self._tensor(name)

    def adapter(self, sizes: AdapterSizes, adapter_dtype: torch.dtype) -> Iterator[Unit]:
        """Units of the adapter file."""
        if self.layout.method == "LORA":
            for module in self.architecture.targets:
                yield self._lora(module, sizes.rank, adapter_dtype)
            return
        for module in self.architecture.targets:
            yield tiny_unit(module, self._shape(module), self._trained(module), sizes)
        yield from vector_units(sizes)

    def _lora(self, module: str, rank: int, dtype: torch.dtype) -> LoraUnit:
        out, into = self._shape(module)
        name_a, name_b = lora_names(module)
        kind = DTYPE_NAMES[dtype]
        specs = (TensorSpec(name_a, kind, (rank, into)), TensorSpec(name_b, kind, (out, rank)))
        # whatever ends in half precision, on disk or on loading, must not become subnormal there
        balanced = self.layout.weights != "none" or dtype != torch.float32
        return LoraUnit(module, (out, into), self._trained(module), rank, balanced, dtype, specs)

    def _linear(self, module: str) -> LinearUnit:
        shape, source = self._shape(module), self._source(module)
        fold = self.layout.merged and module in self.architecture.targets
        dtype = self.layout.dtype
        if dtype is None and source == "dense":
            header = self.base.tensors[f"{module}.weight"]
            dtype = header.torch_dtype if self.base.is_4bit else TRAINER_DTYPE
        if module in self.keep:
            dtype = TRAINER_DTYPE
        name = f"{module}.weight"
        outputs = (
            self._specs_4bit(module, shape)
            if dtype is None
            else (TensorSpec(name, DTYPE_NAMES[dtype], shape),)
        )
        return LinearUnit(
            module=module,
            shape=shape,
            source=source,
            trained=self._trained(module),
            as_stored=self.ground.as_stored,
            fold=fold,
            dtype=dtype,
            outputs=outputs,
        )

    def _tensor(self, name: str) -> TensorUnit:
        header = self.base.tensors[name]
        casts: list[torch.dtype] = []
        if header.torch_dtype.is_floating_point:
            if not self.base.is_4bit and not self.ground.as_stored:
                casts.append(TRAINER_DTYPE)
            if self.layout.dtype is not None:
                casts.append(self.layout.dtype)
        dtype = casts[-1] if casts else header.torch_dtype
        if all(cast == header.torch_dtype for cast in casts):
            casts = []
        spec = TensorSpec(name, DTYPE_NAMES[dtype], header.shape)
        return TensorUnit(name, header.shape, tuple(casts), (spec,))

    def _source(self, module: str) -> Source:
        return self._stored(module, in_4_bits=self.ground.fold_onto == "dequantized")

    def _trained(self, module: str) -> Source:
        return self._stored(module, in_4_bits=self.ground.trained_on == "4bit")

    def _stored(self, module: str, *, in_4_bits: bool) -> Source:
        if f"{module}.weight" in self.base.packed:
            return "4bit"
        quantizes = in_4_bits and not self.base.is_4bit and module in self.architecture.linears
        return "quantize" if quantizes else "dense"

    def _shape(self, module: str) -> tuple[int, int]:
        shape = self.architecture.parameters.get(f"{module}.weight", ())
        if len(shape) != 2:
            raise PlanError(
                f"{self.base.path}: {module}.weight is stored in 4 bits, but config.json's "
                "architecture has no such linear layer; weights and config.json do not belong "
                "together"
            )
        return shape[0], shape[1]

    def _specs_4bit(self, module: str, shape: tuple[int, int]) -> tuple[TensorSpec, ...]:
        if self._source(module) == "4bit":
            headers = [self.base.tensors[name] for name in self.base.names_4bit(module)]
            return tuple(
                TensorSpec(h.name, h.dtype, None if STATE_PREFIX in h.name else h.shape)
                for h in headers
            )
        name, numel = f"{module}.weight", shape[0] * shape[1]
        blocks = -(-numel // BLOCK_SIZE)
        return (
            TensorSpec(name, "U8", (-(-numel // 2), 1)),
            TensorSpec(f"{name}.absmax", "U8", (blocks,)),
            TensorSpec(f"{name}.nested_absmax", "F32", (-(-blocks // NESTED_BLOCK_SIZE),)),
            TensorSpec(f"{name}.nested_quant_map", "F32", (256,)),
            TensorSpec(f"{name}.quant_map", "F32", (16,)),
            TensorSpec(f"{name}{STATE_PREFIX}nf4", "U8", None),
        )


def _check_rank(architecture: Architecture, rank: int) -> None:
    for module in architecture.targets:
        shape = architecture.parameters[f"{module}.weight"]
        if rank > min(shape):
            raise PlanError(
                f"{module}: a weight of shape {list(shape)} has no SVD cut at rank {rank}; is this "
                "the base that the artifact was trained on?"
            )


def _regroup(units: Sequence[Unit], limit: int) -> list[list[Unit]]:
    """Fill shards in order, each up to ``limit`` bytes; a larger unit gets one of its own."""
    groups: list[list[Unit]] = [[]]
    used = 0
    for unit in units:
        size = sum(spec.max_bytes for spec in unit.outputs)
        if groups[-1] and used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(unit)
        used += size
    return groups


def _named(groups: Sequence[Sequence[Unit]]) -> list[OutputFile]:
    if len(groups) == 1:
        return [OutputFile(SINGLE_FILE, tuple(groups[0]))]
    total = len(groups)
    return [
        OutputFile(f"model-{i:05d}-of-{total:05d}.safetensors", tuple(group))
        for i, group in enumerate(groups, start=1)
    ]
