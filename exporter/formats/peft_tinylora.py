"""``peft-tinylora``: the adapter alone, as a PEFT TinyLoRA adapter with all its parts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from exporter.base.architecture import Architecture
from exporter.base.checkpoint import Checkpoint, read_json
from exporter.errors import PlanError
from exporter.formats.encoding import Encoded, Encoding, Fold, Shape, VectorUnit, sums_beside
from exporter.formats.format import AdapterFormat
from exporter.formats.lora import on_dense_base, peft_config
from exporter.safetensors.writer import TensorSpec
from tinylora import AdapterSizes, LowRankDelta, TinyLoRAParts, load_peft_adapter
from tinylora.adapters.peft_directory import CONFIG_FILE


@dataclass(frozen=True)
class TinyLoraParts(Encoding):
    """A, B and P of a module, fp32."""

    sizes: AdapterSizes

    def specs(self, module: str, shape: Shape, base: Checkpoint) -> tuple[TensorSpec, ...]:
        """A ``[r, in]``, B ``[out, r]`` and P ``[u, r, r]``."""
        rank, (out, into) = self.sizes.rank_of(shape), shape
        shapes = ((rank, into), (out, rank), (self.sizes.u, rank, rank))
        names = zip(_names(module), shapes, strict=True)
        return tuple(TensorSpec(name, "F32", wanted) for name, wanted in names)

    def encode(self, fold: Fold) -> Encoded:
        """As the adapter has them."""
        assert fold.parts is not None, "the adapter gives them"
        parts, _ = fold.parts()
        tensors = dict(zip(_names(fold.module), (parts.A, parts.B, parts.P), strict=True))
        return Encoded(tensors, sums_beside(self.decode(fold, tensors), fold.delta))

    def decode(self, fold: Fold, tensors: Mapping[str, Tensor]) -> LowRankDelta:
        """B · (Σᵢ vᵢ Pᵢ) · A, with the trained vector as it is stored."""
        assert fold.parts is not None, "the adapter gives them"
        _, vector = fold.parts()
        a, b, p = (tensors[name] for name in _names(fold.module))
        return TinyLoRAParts(a, b, p, 0).low_rank(vector)


class PeftTinyLora(AdapterFormat):
    """A TinyLoRA adapter that stores its projections."""

    name: ClassVar[str] = "peft-tinylora"
    content: ClassVar[str] = (
        "The adapter alone, as a PEFT TinyLoRA adapter (PEFT 0.19 or later) with all its parts "
        "stored. PEFT cannot put TinyLoRA on a 4-bit base: load the base in 16 or 32 bits. The "
        "parts stay float32 on a 16-bit base too; with `autocast_adapter_dtype=False` PEFT would "
        "round them to the base's dtype."
    )
    standalone: ClassVar[bool] = False
    library: ClassVar[str] = "peft"

    def adapter_encoding(self, sizes: AdapterSizes) -> Encoding:
        """A, B and P."""
        if not sizes.u:
            raise PlanError(
                "the adapter is a LoRA without a trained vector, which peft-tinylora cannot hold; "
                "take the format lora"
            )
        return TinyLoraParts(sizes)

    def vectors(self, sizes: AdapterSizes) -> Iterator[VectorUnit]:
        """All of them."""
        for group in range(sizes.groups):
            name = f"base_model.tinylora_v.{group}"
            yield VectorUnit(group, (TensorSpec(name, "F32", (sizes.u,)),))

    def adapter_config(
        self, architecture: Architecture, sizes: AdapterSizes, weight_tying: float, model_id: str
    ) -> dict[str, Any]:
        """With ``save_projection``."""
        own = {
            "fan_in_fan_out": False,
            "init_weights": True,
            "projection_seed": 0,  # without effect: P is stored
            "save_projection": True,
            "tinylora_dropout": 0.0,
            "u": sizes.u,
            "weight_tying": weight_tying,
        }
        return peft_config("TINYLORA", architecture, sizes.rank, model_id, own)

    def adapter_problems(self, directory: Path, targets: list[str]) -> Iterator[str]:
        """A target without its parts, or that is not named."""
        adapter = load_peft_adapter(directory)
        patterns = read_json(directory / CONFIG_FILE).get("target_modules")
        named = tuple(f".{name}" for name in patterns) if isinstance(patterns, list) else ()
        for module in targets:
            if module not in adapter.shapes or not f".{module}".endswith(named):
                yield f"{module} is not among the adapter's modules"

    def loading(self, model_id: str, trained_on: str) -> str:
        """On a 16-bit base: PEFT takes no other."""
        return on_dense_base(model_id)


def _names(module: str) -> tuple[str, str, str]:
    """Keys of A, B and P in a PEFT adapter file."""
    prefix = f"base_model.model.{module}.tinylora_"
    return f"{prefix}A", f"{prefix}B", f"{prefix}P"
