"""Whether what a base stores is what its ``config.json`` says, told from headers alone."""

import re
from collections.abc import Sequence

import torch

from exporter.base.architecture import Architecture
from exporter.base.checkpoint import Checkpoint
from exporter.errors import PlanError
from exporter.safetensors.reader import TensorHeader
from tinylora.models.embedded_adapter import adapter_tensors

# Computed by every model itself; older checkpoints store them.
_ROTARY_FREQUENCIES = r"rotary_emb\.inv_freq$"


def check_base(base: Checkpoint, architecture: Architecture) -> None:
    """Refuse a base whose weights and ``config.json`` do not belong together, with a PlanError."""
    if found := adapter_tensors(unused_tensors(base, architecture)):
        raise PlanError(
            f"{base.path / base.tensors[found[0]].file}: holds {len(found)} tensors of an adapter "
            f"that was not merged ({', '.join(found[:3])}, ...), which transformers ignores; give "
            "the base without them, or merge that adapter first"
        )
    if missing := [name for name in architecture.parameters if name not in base.tensors]:
        raise PlanError(f"{base.path}: {_missing(base, architecture, missing)}")
    for name, shape in architecture.parameters.items():
        _check_shape(base, name, shape)
    for module in (*architecture.linears, *architecture.kept):
        header = base.tensors.get(f"{module}.weight")
        if header is not None:  # a tied head has no weight of its own
            _check_linear(base, header, quantized=base.is_4bit and module in architecture.linears)


def unused_tensors(base: Checkpoint, architecture: Architecture) -> tuple[str, ...]:
    """Tensors of a base that its model does not use, sorted; they are carried into an export."""
    parts = {name for parts in base.packed.values() for name in parts}
    others = base.tensors.keys() - architecture.parameters.keys() - architecture.tied.keys() - parts
    expected = re.compile("|".join((_ROTARY_FREQUENCIES, *architecture.ignored)))
    return tuple(sorted(name for name in others if not expected.search(name)))


def _missing(base: Checkpoint, architecture: Architecture, missing: Sequence[str]) -> str:
    """What a base lacks, and what it has instead."""
    shape, unused = list(architecture.parameters[missing[0]]), unused_tensors(base, architecture)
    others = f", and so are {len(missing) - 1} others" if missing[1:] else ""
    text = f"tensor {missing[0]!r} {shape} of config.json is missing{others}; "
    if not unused:
        return text + "is the download complete?"
    return (
        f"{text}nothing in that model accounts for {len(unused)} that are there "
        f"({', '.join(unused[:3])}{', ...' if unused[3:] else ''}); give the config.json that was "
        "saved with them, or save the model again with transformers' save_pretrained"
    )


def _check_shape(base: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
    header = base.tensors[name]
    expected = (-(-torch.Size(shape).numel() // 2), 1) if name in base.packed else shape
    if header.shape != expected:
        raise PlanError(
            f"{base.path / header.file}: tensor {name!r} has shape {list(header.shape)}, "
            f"config.json asks for {list(expected)}; give the files of one model"
        )


def _check_linear(base: Checkpoint, header: TensorHeader, quantized: bool) -> None:
    """Rules without which transformers cannot load a base, or cannot run it."""
    where = f"{base.path / header.file}: tensor {header.name!r}"
    packed = header.name in base.packed
    if quantized and not packed:
        raise PlanError(
            f"{where} is stored as {header.dtype}, but config.json's quantization_config says 4 "
            "bits; name the module in llm_int8_skip_modules, or remove quantization_config"
        )
    if base.is_4bit and packed and not quantized:
        raise PlanError(
            f"{where} is stored in 4 bits, but config.json's llm_int8_skip_modules has the "
            "module; remove it from that list"
        )
    if not packed and not header.torch_dtype.is_floating_point:
        raise PlanError(
            f"{where} is stored as {header.dtype}, expected a floating-point weight; give the base "
            "before it was quantized, or a bitsandbytes 4-bit one"
        )
