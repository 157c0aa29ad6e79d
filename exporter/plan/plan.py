"""The frozen plan: which tensors go into which file, checked before any work is done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from exporter.base.architecture import Architecture
from exporter.base.check import check_base
from exporter.base.checkpoint import SINGLE_FILE, Checkpoint
from exporter.errors import PlanError
from exporter.formats.encoding import TRAINER_DTYPE, ModuleUnit, Source, TensorUnit, Unit
from exporter.formats.format import AdapterFormat, Format
from exporter.plan.base_weights import BaseWeights
from exporter.safetensors.reader import DTYPE_NAMES
from exporter.safetensors.writer import FileForm, TensorSpec
from tinylora import AdapterSizes
from tinylora.adapters.peft_directory import WEIGHTS_FILE as ADAPTER_WEIGHTS


@dataclass(frozen=True)
class OutputFile:
    """One weight file of the output."""

    name: str
    units: tuple[Unit, ...]
    form: FileForm

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor in it."""
        return self.form.stored([spec for unit in self.units for spec in unit.outputs])


@dataclass(frozen=True)
class ExportPlan:
    """What will be written: files in the order of making, targets in that of the random stream."""

    files: tuple[OutputFile, ...]
    targets: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def max_bytes(self) -> int:
        """Most bytes that the weight files can take."""
        return sum(file.form.max_bytes(file.specs) for file in self.files)

    @property
    def linears(self) -> dict[str, ModuleUnit]:
        """Units of linear layers, by module."""
        units = (unit for file in self.files for unit in file.units)
        return {unit.module: unit for unit in units if isinstance(unit, ModuleUnit)}

    @property
    def folds(self) -> dict[str, ModuleUnit]:
        """The unit that holds a target module's delta, by module, in the order of the targets."""
        units = (unit for file in self.files for unit in file.units)
        found = {u.module: u for u in units if isinstance(u, ModuleUnit) and u.fold}
        return {module: found[module] for module in self.targets}


def build_plan(
    base: Checkpoint,
    architecture: Architecture,
    layout: Format,
    *,
    sizes: AdapterSizes,
    weights: BaseWeights,
    max_shard_size: int | None = None,
) -> ExportPlan:
    """Plan an export from headers; ``max_shard_size`` None keeps the base's files.

    Raises:
        PlanError: Weights and config.json do not belong together, or a module to keep is none.
    """
    check_base(base, architecture)
    if not layout.takes("fold_onto"):
        weights = replace(weights, fold_onto="dequantized", as_stored=False)
    for module in () if sizes.capped else architecture.targets:
        shape = architecture.parameters[f"{module}.weight"]
        if sizes.rank > min(shape):
            raise PlanError(
                f"{module}: a weight of shape {list(shape)} has no SVD cut at rank {sizes.rank}; "
                "give the base that the artifact was trained on"
            )
    if unknown := set(layout.kept) - {*architecture.targets, *architecture.linears}:
        raise PlanError(f"{base.path}: {sorted(unknown)[0]!r} in keep is no linear layer of it")
    planner = _Planner(base, architecture, layout, weights)
    form = layout.file_form(base, architecture, sizes)
    files: list[OutputFile] = []
    if layout.standalone:
        groups = [list(planner.units(shard)) for shard in base.files]
        if form.single or max_shard_size is not None:
            limit = None if form.single else max_shard_size
            groups = _regroup([unit for group in groups for unit in group], limit)
        files += _named([group for group in groups if group], form)
    if isinstance(layout, AdapterFormat):
        name = Path(ADAPTER_WEIGHTS).with_suffix(form.suffix).name
        files.append(OutputFile(name, tuple(planner.adapter(layout, sizes)), form))
    kept = tuple(sorted({*architecture.kept, *layout.kept}))
    return ExportPlan(tuple(files), architecture.targets, kept)


@dataclass(frozen=True)
class _Planner:
    base: Checkpoint
    architecture: Architecture
    layout: Format
    weights: BaseWeights

    def units(self, shard: str) -> Iterator[Unit]:
        """Units whose (packed) weight lies in a shard of the base."""
        linear = set(self.architecture.linears) | set(self.architecture.targets)
        linear |= {prefix.removesuffix(".weight") for prefix in self.base.packed}
        companions = {part for parts in self.base.packed.values() for part in parts}
        for name in self.base.files[shard].headers:
            module = name.removesuffix(".weight")
            if name in companions:
                continue
            if name.endswith(".weight") and module in linear:
                yield self._linear(module)
            else:
                yield self._tensor(name)

    def adapter(self, layout: AdapterFormat, sizes: AdapterSizes) -> Iterator[Unit]:
        """Units of the adapter file."""
        encoding = layout.adapter_encoding(sizes)
        for module in self.architecture.targets:
            shape, trained = self._shape(module), self._trained(module)
            outputs = encoding.specs(module, shape, self.base)
            yield ModuleUnit(module, shape, trained, trained, True, encoding, outputs)
        yield from layout.vectors(sizes)

    def _linear(self, module: str) -> ModuleUnit:
        shape = self._shape(module)
        source = self._stored(module, in_4_bits=self.weights.fold_onto == "dequantized")
        if self.weights.as_stored:
            source = "as stored"
        encoding = self.layout.encoding(module, source, self.base)
        return ModuleUnit(
            module=module,
            shape=shape,
            source=source,
            trained=self._trained(module),
            fold=self.layout.merged and module in self.architecture.targets,
            encoding=encoding,
            outputs=encoding.specs(module, shape, self.base),
        )

    def _tensor(self, name: str) -> TensorUnit:
        header = self.base.tensors[name]
        casts: list[torch.dtype] = []
        if header.torch_dtype.is_floating_point:
            if not self.base.is_4bit and not self.weights.as_stored:
                casts.append(TRAINER_DTYPE)
            if self.layout.dtype is not None:
                casts.append(self.layout.dtype)
        dtype = casts[-1] if casts else header.torch_dtype
        spec = TensorSpec(name, DTYPE_NAMES[dtype], header.shape)
        return TensorUnit(name, header.shape, tuple(casts), (spec,))

    def _trained(self, module: str) -> Source:
        return self._stored(module, in_4_bits=self.weights.trained_on == "4bit")

    def _stored(self, module: str, *, in_4_bits: bool) -> Source:
        if f"{module}.weight" in self.base.packed:
            return "4bit"
        quantizes = in_4_bits and not self.base.is_4bit and module in self.architecture.linears
        return "quantize" if quantizes else "dense"

    def _shape(self, module: str) -> tuple[int, int]:
        shape = self.architecture.parameters.get(f"{module}.weight", ())
        if len(shape) != 2:
            raise PlanError(
                f"{self.base.path}: {module}.weight is stored in 4 bits, but config.json has no "
                "such linear layer; give the files of one model"
            )
        return shape[0], shape[1]


def _regroup(units: Sequence[Unit], limit: int | None) -> list[list[Unit]]:
    """Fill shards in order, each up to ``limit`` bytes; a larger unit gets one of its own."""
    if limit is None:
        return [list(units)]
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


def _named(groups: Sequence[Sequence[Unit]], form: FileForm) -> list[OutputFile]:
    if len(groups) == 1:
        name = Path(SINGLE_FILE).with_suffix(form.suffix).name
        return [OutputFile(name, tuple(groups[0]), form)]
    total = len(groups)
    return [
        OutputFile(f"model-{i:05d}-of-{total:05d}{form.suffix}", tuple(group), form)
        for i, group in enumerate(groups, start=1)
    ]
