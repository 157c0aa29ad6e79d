"""TinyLoRA artifacts: read them, rebuild their deltas, put them on a model.

The flow, one file a step::

    tiny_lora_v.pt ─ artifact ─┐
    model ─ targets ───────────┼─ projection (philox) ─┐
    weight ─ quantized_weight ─┴─ factors (store) ─────┴─ delta ─┬─ adapter ─ inject: the
    PEFT's directory ─ peft_adapter ───────────────── peft_deltas ─┘  restored model

The names below are imported when they are first used: all but the errors need torch, which takes
seconds to import, and the judge and the importers of suites do without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tinylora.errors import TinyLoRAError

if TYPE_CHECKING:
    from tinylora.adapter import adapted_layers, deltas_of, load_adapter
    from tinylora.artifact import AdapterSizes, Artifact, load_artifact, save_artifact
    from tinylora.delta import AdapterDeltas
    from tinylora.factor_store import FactorStore
    from tinylora.factors import Factors, exact_factors, fast_factors
    from tinylora.inject import Restoration, apply_tiny_lora, restore
    from tinylora.low_rank import LowRankDelta, ModuleDelta, ModuleDeltas, TinyLoRAParts
    from tinylora.options import DeltaOptions, ResolvedOptions
    from tinylora.peft_adapter import PeftAdapter, load_peft_adapter
    from tinylora.peft_deltas import PeftDeltas
    from tinylora.philox import philox_normal
    from tinylora.projection import draw_projections
    from tinylora.quantized_weight import QuantizedWeight
    from tinylora.targets import target_modules, target_names
    from tinylora.wrappers import (
        AdaptedLinear,
        PeftTinyLoRALinear,
        TinyLoRAGlobalParams,
        TinyLoRALinear,
    )

__all__ = [
    "AdaptedLinear",
    "AdapterDeltas",
    "AdapterSizes",
    "Artifact",
    "DeltaOptions",
    "FactorStore",
    "Factors",
    "LowRankDelta",
    "ModuleDelta",
    "ModuleDeltas",
    "PeftAdapter",
    "PeftDeltas",
    "PeftTinyLoRALinear",
    "QuantizedWeight",
    "ResolvedOptions",
    "Restoration",
    "TinyLoRAError",
    "TinyLoRAGlobalParams",
    "TinyLoRALinear",
    "TinyLoRAParts",
    "adapted_layers",
    "apply_tiny_lora",
    "deltas_of",
    "draw_projections",
    "exact_factors",
    "fast_factors",
    "load_adapter",
    "load_artifact",
    "load_peft_adapter",
    "philox_normal",
    "restore",
    "save_artifact",
    "target_modules",
    "target_names",
]

_HOMES = {
    "adapter": (
        "adapted_layers",
        "deltas_of",
        "load_adapter",
    ),
    "artifact": (
        "AdapterSizes",
        "Artifact",
        "load_artifact",
        "save_artifact",
    ),
    "delta": ("AdapterDeltas",),
    "factor_store": ("FactorStore",),
    "factors": (
        "Factors",
        "exact_factors",
        "fast_factors",
    ),
    "inject": (
        "Restoration",
        "apply_tiny_lora",
        "restore",
    ),
    "low_rank": (
        "LowRankDelta",
        "ModuleDelta",
        "ModuleDeltas",
        "TinyLoRAParts",
    ),
    "options": (
        "DeltaOptions",
        "ResolvedOptions",
    ),
    "peft_adapter": (
        "PeftAdapter",
        "load_peft_adapter",
    ),
    "peft_deltas": ("PeftDeltas",),
    "philox": ("philox_normal",),
    "projection": ("draw_projections",),
    "quantized_weight": ("QuantizedWeight",),
    "targets": (
        "target_modules",
        "target_names",
    ),
    "wrappers": (
        "AdaptedLinear",
        "PeftTinyLoRALinear",
        "TinyLoRAGlobalParams",
        "TinyLoRALinear",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # else every misspelt name would pass the type check

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'tinylora' has no attribute {name!r}")
        return getattr(import_module(f"tinylora.{_HOME_OF[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOME_OF})
