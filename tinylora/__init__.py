"""TinyLoRA artifacts: read them, rebuild their deltas, put them on a model.

The flow, one file a step::

    tiny_lora_v.pt ─ artifact ─┐
    model ─ targets ───────────┼─ projection (philox) ─┐
    weight ─ quantized_weight ─┴─ factors (store) ─────┴─ delta ─ inject: the restored model
"""

from tinylora.artifact import Artifact, load_artifact, save_artifact
from tinylora.delta import AdapterDeltas, DeltaOptions, LowRankDelta, ResolvedOptions
from tinylora.errors import TinyLoRAError
from tinylora.factor_store import FactorStore
from tinylora.factors import Factors, exact_factors, fast_factors
from tinylora.inject import (
    Restoration,
    TinyLoRAGlobalParams,
    TinyLoRALinear,
    apply_tiny_lora,
    restore,
)
from tinylora.philox import philox_normal
from tinylora.projection import draw_projections
from tinylora.quantized_weight import QuantizedWeight
from tinylora.targets import target_modules, target_names

__all__ = [
    "AdapterDeltas",
    "Artifact",
    "DeltaOptions",
    "FactorStore",
    "Factors",
    "LowRankDelta",
    "QuantizedWeight",
    "ResolvedOptions",
    "Restoration",
    "TinyLoRAError",
    "TinyLoRAGlobalParams",
    "TinyLoRALinear",
    "apply_tiny_lora",
    "draw_projections",
    "exact_factors",
    "fast_factors",
    "load_artifact",
    "philox_normal",
    "restore",
    "save_artifact",
    "target_modules",
    "target_names",
]
