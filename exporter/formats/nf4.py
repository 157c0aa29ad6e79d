"""``nf4``, ``nf4-mixed`` and ``nf4-embedded``: linear layers in 4 bits, merged or as they are.

A 4-bit base keeps its code book, block size, double quantization and ``config.json``. A 16-bit base
is quantized as the trainer did while loading it: nf4 in blocks of 64, double quantization.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from exporter.base.checkpoint import Checkpoint
from exporter.fidelity import ErrorSums, sums_over, sums_without_change
from exporter.formats.dense import DenseWeight
from exporter.formats.encoding import (
    TRAINER_DTYPE,
    Encoded,
    Encoding,
    Fold,
    Shape,
    Source,
)
from exporter.formats.format import Format
from exporter.formats.fused import fused_names
from exporter.formats.lora import LoraFormat
from exporter.quantize.calibrated import calibrated
from exporter.quantize.method import RequantizeMethod
from exporter.quantize.requantize import preserve, recompute
from exporter.safetensors.writer import TensorSpec
from tinylora import LowRankDelta, QuantizedWeight
from tinylora.models.pretrained import trainer_nf4
from tinylora.weights.quantized_weight import STATE_PREFIX

BLOCK_SIZE = 64
NESTED_BLOCK_SIZE = 256


@dataclass(frozen=True)
class Codes(Encoding):
    """A bitsandbytes 4-bit weight, whose codes a method chooses."""

    method: RequantizeMethod = "preserve"

    def specs(self, module: str, shape: Shape, base: Checkpoint) -> tuple[TensorSpec, ...]:
        """As the base has them; as loading in 4 bits makes them of a 16-bit base."""
        name = f"{module}.weight"
        if name in base.packed:
            headers = [base.tensors[part] for part in (name, *base.packed[name])]
            return tuple(
                TensorSpec(h.name, h.dtype, None if STATE_PREFIX in h.name else h.shape)
                for h in headers
            )
        numel = shape[0] * shape[1]
        blocks = -(-numel // BLOCK_SIZE)
        return (
            TensorSpec(name, "U8", (-(-numel // 2), 1)),
            TensorSpec(f"{name}.absmax", "U8", (blocks,)),
            TensorSpec(f"{name}.nested_absmax", "F32", (-(-blocks // NESTED_BLOCK_SIZE),)),
            TensorSpec(f"{name}.nested_quant_map", "F32", (256,)),
            TensorSpec(f"{name}.quant_map", "F32", (16,)),
            TensorSpec(f"{name}{STATE_PREFIX}nf4", "U8", None),
        )

    def encode(self, fold: Fold) -> Encoded:
        """Choose codes for the sum; the weight's own tensors where none moves."""
        seen, delta = fold.weight, fold.delta
        assert isinstance(seen, QuantizedWeight), "4-bit outputs come from 4-bit weights"
        if delta is None:
            return Encoded(seen.to_tensors(fold.name))
        nearest = merged = preserve(seen, delta)
        if self.method == "recompute":
            merged = recompute(seen, delta)
        elif self.method == "calibrated":
            assert fold.moment is not None, "calibration texts were asked for with the method"
            merged = calibrated(seen, delta, fold.moment().to(seen.device))
        sums = _sums(merged, seen, delta)
        if nearest is seen:
            bound = sums.delta
        else:
            bound = (sums if merged is nearest else _sums(nearest, seen, delta)).miss
        return Encoded(
            merged.to_tensors(fold.name),
            replace(sums, bound=bound),
            codes_moved=_codes_moved(merged, seen),
            scales_changed=int(torch.count_nonzero(merged.block_absmax != seen.block_absmax)),
        )

    def decode(self, fold: Fold, tensors: Mapping[str, Tensor]) -> Tensor:
        """The weight, dequantized."""
        return QuantizedWeight.from_tensors(fold.name, tensors).dequantize()


def _sums(stored: QuantizedWeight, seen: QuantizedWeight, delta: LowRankDelta) -> ErrorSums:
    """Sums for what a 4-bit weight holds of a delta, beside the weight that was given."""
    if stored is seen:
        return sums_without_change(delta)
    return sums_over(
        (stored.rows(rows).float() - seen.rows(rows).float(), change)
        for rows, change in delta.pieces()
    )


def _codes_moved(stored: QuantizedWeight, seen: QuantizedWeight) -> int:
    """How many codes differ."""
    if stored is seen:
        return 0
    differing = stored.data.bitwise_xor(seen.data)
    return sum(int(torch.count_nonzero(differing & nibble)) for nibble in (0xF0, 0x0F))


@dataclass(frozen=True)
class Nf4(Format):
    """All linear layers that 4-bit loading quantizes are stored in 4 bits."""

    requantize: RequantizeMethod = "preserve"
    name: ClassVar[str] = "nf4"
    content: ClassVar[str] = (
        "The delta is merged into the weights, which are stored in 4 bits (bitsandbytes)."
    )

    def encoding(self, module: str, source: Source, base: Checkpoint) -> Encoding:
        """Codes; what the base has in 16 bits stays so."""
        if source != "dense":
            return Codes(self.requantize)
        own = base.tensors[f"{module}.weight"].torch_dtype
        return DenseWeight(own if base.is_4bit else TRAINER_DTYPE)

    def config(self, base: Checkpoint, kept: tuple[str, ...]) -> Mapping[str, Any]:
        """The 4-bit base's own, but for modules that it had in 4 bits; the trainer's settings."""
        skipped = {*kept, *fused_names(kept)}
        if not base.is_4bit:
            settings = trainer_nf4().to_dict() | {"llm_int8_skip_modules": sorted(skipped)}
            own = {"quantization_config": dict(sorted(settings.items()))}
            return {**super().config(base, kept), **own}
        if not any(f"{module}.weight" in base.packed for module in kept):
            return base.config
        settings = dict(base.config["quantization_config"])
        named = settings.get("llm_int8_skip_modules") or []
        settings["llm_int8_skip_modules"] = sorted({*named, *skipped})
        return dict(base.config) | {"quantization_config": settings}

    def loaded_problems(self, model: Any) -> Iterator[str]:
        """No layer in 4 bits."""
        if "Linear4bit" not in {type(module).__name__ for module in model.modules()}:
            yield "no layer came up in 4 bits"


@dataclass(frozen=True)
class Nf4Mixed(Nf4):
    """As ``nf4``, but for the modules ``keep``, which stay dense, in what the model computes in."""

    keep: tuple[str, ...] = ()
    name: ClassVar[str] = "nf4-mixed"
    content: ClassVar[str] = (
        "The delta is merged; the modules that carry most of its effect are stored in bfloat16, "
        "the others in 4 bits (bitsandbytes)."
    )

    def encoding(self, module: str, source: Source, base: Checkpoint) -> Encoding:
        """Dense where the module is kept."""
        if module in self.keep:
            return DenseWeight(_dense_dtype(base))
        return super().encoding(module, source, base)


def _dense_dtype(base: Checkpoint) -> torch.dtype:
    """Of the layers beside those in 4 bits: another one would not meet their outputs."""
    named = base.config.get("dtype") or base.config.get("torch_dtype")
    found = getattr(torch, str(named).removeprefix("torch."), None) if base.is_4bit else None
    return found if found in (torch.float16, torch.float32) else TRAINER_DTYPE


class Nf4Embedded(LoraFormat):
    """Keeps the delta, and needs ``peft`` to load."""

    name: ClassVar[str] = "nf4-embedded"
    content: ClassVar[str] = (
        "The 4-bit base, code for code, with the delta beside it as a LoRA adapter."
    )
    needs: ClassVar[str] = (
        "Loading it needs transformers 5.4 or newer, with peft installed: without peft, "
        "transformers loads the base alone and says nothing."
    )
    note: ClassVar[str] = (
        "> Load from a local directory: from a hub id transformers looks for another base.\n"
    )

    def encoding(self, module: str, source: Source, base: Checkpoint) -> Encoding:
        """The base's weights."""
        return Nf4().encoding(module, source, base)

    def config(self, base: Checkpoint, kept: tuple[str, ...]) -> Any:
        """The base's configuration."""
        return Nf4().config(base, kept)

    def loaded_problems(self, model: Any) -> Iterator[str]:
        """No layer in 4 bits, or no adapter."""
        yield from Nf4().loaded_problems(model)
        if not getattr(model, "peft_config", None):
            yield "the adapter was not attached; is peft installed?"
