"""TinyLoRA artifacts: read them, rebuild their deltas, put them on a model.

The flow, one file a step::

    tiny_lora_v.pt ─ artifact ─┐
    model ─ targets ───────────┼─ projection (philox) ─┐
    weight ─ quantized_weight ─┴─ factors (store) ─────┴─ delta ─┬─ adapter ─ inject: the
    PEFT's directory ─ peft_adapter ───────────────── peft_deltas ─┘  restored model
"""

from tinylora.adapter import adapted_layers, deltas_of, load_adapter
from tinylora.artifact import AdapterSizes, Artifact, load_artifact, save_artifact
from tinylora.delta import AdapterDeltas
from tinylora.errors import TinyLoRAError
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
